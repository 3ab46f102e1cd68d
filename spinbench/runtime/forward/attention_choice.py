"""Which attention a run gets: torch's, or the Triton kernels."""

from importlib.util import find_spec
from typing import Literal

import torch

from spinbench.errors import UserError
from spinbench.runtime.kernels.table_attention import TableAttention

AttentionKind = Literal["torch", "triton"]
AttentionChoice = Literal["auto"] | AttentionKind
LEAST_CAPABILITY = (8, 0)
"""Of a GPU: Triton compiles for older ones no more, or not all of bfloat16."""
KERNEL_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def choose_attention(choice: AttentionChoice, device: torch.device, dtype: torch.dtype) -> AttentionKind:
    """What `engine.attention` means here: auto = Triton where it can run on a CUDA device, else torch.

    Raises UserError where Triton is asked for and cannot be had.
    """
    if choice == "torch":
        return "torch"
    has_triton = find_spec("triton") is not None
    if choice == "auto":
        can_run = device.type == "cuda" and has_triton and dtype in KERNEL_DTYPES and _is_compiled_for(device)
        return "triton" if can_run else "torch"
    problem = None
    if not has_triton:
        problem = "Triton is not installed; pip install 'spinbench[gpu]', or set it to auto or torch"
    elif device.type != "cuda" and not _is_interpreted():
        problem = f"the models run on a {device.type}, where Triton compiles nothing; set it to auto or torch"
    elif dtype not in KERNEL_DTYPES and not _is_interpreted():
        problem = (
            f"its kernels take float32 and bfloat16, not {str(dtype).removeprefix('torch.')}; set it to auto or torch"
        )
    if problem is not None:
        raise UserError(f"engine.attention is triton; {problem}")
    return "triton"


def table_attention(kind: AttentionKind, device: torch.device) -> TableAttention | None:
    """The kernels for `device`; None = torch's attention, request by request."""
    if kind == "torch":
        return None
    from spinbench.runtime.kernels.triton_attention import triton_attention  # only where Triton is there

    return TableAttention.on(device, triton_attention)


def _is_compiled_for(device: torch.device) -> bool:
    # a device that is not there is left to whoever uses it
    return not torch.cuda.is_available() or torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


def _is_interpreted() -> bool:
    from triton import knobs

    return bool(knobs.runtime.interpret)
