"""The machine that a run or a profile was made on."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch


def device_hardware(device: torch.device) -> dict[str, Any]:
    """The device and the machine around it."""
    return {
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
    }


def profiled_name(hardware: Mapping[str, Any]) -> str:
    """What a profile calls the device of `device_hardware`."""
    return hardware["gpu"] if hardware["device"] == "cuda" else f"{hardware['cpu']}, {hardware['cores']} cores"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
