"""Memory that what is to come may take."""

import psutil
import pytest
import torch

from spinbench.models.free_memory import free_bytes


def test_what_torch_keeps_and_does_not_use_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 60)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 25)
    assert free_bytes(torch.device("cuda")) == 45


def test_of_a_cpu_it_is_the_machines() -> None:
    assert 0 < free_bytes(torch.device("cpu")) <= psutil.virtual_memory().total
