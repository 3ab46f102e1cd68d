"""The number format that a device is best used with."""

from typing import Literal

import torch

NATIVE_BFLOAT16 = ("avx512_bf16", "amx_bf16", "avx10_1", "bf16", "sve_bf16")
"""Instructions that multiply bfloat16, as `torch.cpu.get_capabilities` names those of x86 and ARM."""


def native_dtype(device: torch.device) -> Literal["bfloat16", "float32"]:
    """bfloat16 where the hardware multiplies it, else float32: other hardware converts every number for each product.

    A GPU multiplies it from compute capability 8.0 on.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    return "bfloat16" if _cpu_multiplies_bfloat16() else "float32"


def _cpu_multiplies_bfloat16() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return any(found.get(name, False) for name in NATIVE_BFLOAT16)
    # torch before it had that knows x86 only
    return torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportAttributeAccessIssue]
