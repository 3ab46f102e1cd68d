"""Which device an engine's config means here."""

import torch

from spinbench.cli.schema import LiveSection
from spinbench.errors import UserError


def choose_device(engine: LiveSection) -> torch.device:
    """The device that `engine.device` means here. Raises UserError when there is no such device."""
    if engine.device == "cuda" and not torch.cuda.is_available():
        raise UserError("engine.device is cuda; torch finds no CUDA GPU here, so it must be cpu or auto")
    if engine.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(engine.device)
