import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run on the CPU; it is read as they are imported

import pytest
import torch

from tests import covering

# Tiny models gain nothing from threads, and several workers with threads of their own stall each other.
torch.set_num_threads(1)

SLOW_LAST = ("models", "report", "simulation", "runtime", "cli", "mutations")
"""Folders whose tests take longer than a blink, in the order in which they run behind all others."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    covering.parametrize(metafunc)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # what is cheap to know is known first; xdist hands out in this order, in shares that get smaller
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    folders = item.nodeid.partition("::")[0].split("/")
    return next((SLOW_LAST.index(folder) for folder in folders if folder in SLOW_LAST), -1)
