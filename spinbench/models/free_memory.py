"""How much memory a device has for what is still to come."""

import gc

import psutil
import torch


def free_bytes(device: torch.device) -> int:
    """Bytes that tensors on `device` may still take.

    On a GPU with what torch has taken from the driver and does not use: models, pools and graphs that are gone are kept
    there for the next ones, such as those of the point before in a sweep.
    """
    if device.type != "cuda":
        return psutil.virtual_memory().available
    gc.collect()  # a body and its graphs may hold each other
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused
