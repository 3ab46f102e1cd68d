"""Which device and which number format an engine's config means here."""

from typing import TypeVar

import torch

from spinbench.cli.config.replay import KnownDtype, LiveSection
from spinbench.cli.torchrun import Torchrun
from spinbench.errors import UserError
from spinbench.models.native_dtype import native_dtype

Live = TypeVar("Live", bound=LiveSection)


def choose_device(engine: LiveSection) -> torch.device:
    """The device that `engine.device` means here, each of torchrun's processes its own GPU.

    Raises UserError when there is no such device.
    """
    if engine.device == "cuda" and not torch.cuda.is_available():
        raise UserError("engine.device is cuda; torch finds no CUDA GPU here, so it must be cpu or auto")
    kind = engine.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    here = Torchrun.here()
    return torch.device(kind, here.local_rank) if kind == "cuda" and here.size > 1 else torch.device(kind)


def known_dtype(engine: LiveSection) -> KnownDtype:
    """The number format that `engine.dtype` means here. Raises UserError as `choose_device`."""
    dtype = engine.dtype
    return native_dtype(choose_device(engine)) if dtype == "auto" else dtype


def with_known_dtype(engine: Live) -> Live:
    """The section with that number format in it."""
    return engine.model_copy(update={"dtype": known_dtype(engine)})
