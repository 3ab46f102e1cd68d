import pytest
import torch

from tests import covering

# Tiny models gain nothing from threads, and several workers with threads of their own stall each other.
torch.set_num_threads(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    covering.parametrize(metafunc)
