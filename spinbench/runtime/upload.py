"""Numbers from the host to the device, without waiting for either."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def upload(numbers: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """`numbers` as a tensor on `device`.

    From pageable memory a transfer waits until the device has done all that was launched before; from page-locked
    memory it is queued behind that, and the host goes on.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(numbers))
    if device.type != "cuda" or not tensor.numel():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
