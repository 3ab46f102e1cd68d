"""The folder that a command leaves its results in."""

from contextlib import suppress
from pathlib import Path

from spinbench.errors import UserError
from spinbench.metrics.store import SUMMARY_FILE


def require_empty(folder: Path) -> None:
    """Raise UserError unless the folder is empty or not there yet: results are never mixed or overwritten."""
    if folder.is_dir():
        names = sorted(path.name for path in folder.iterdir())
        if SUMMARY_FILE in names:
            raise UserError(f"{folder}: holds a run already; delete it, or set hydra.run.dir to another folder")
        if names:
            raise UserError(f"{folder}: is not empty ({names[0]}); set hydra.run.dir to another folder")
    elif folder.exists():
        raise UserError(f"{folder}: is a file; set hydra.run.dir to a folder")


def remove_if_empty(folder: Path) -> None:
    """Take back the folder of a command that wrote nothing."""
    with suppress(OSError):  # it holds something, or was never made
        folder.rmdir()
