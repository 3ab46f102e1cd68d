"""Where the files are that come with spinbench: inside an installed wheel, else at the top of the checkout."""

import sys
from pathlib import Path

import spinbench

PACKAGE = Path(spinbench.__file__).resolve().parent


def shipped_folder(name: str) -> Path:
    """The folder `conf` or `traces`."""
    installed = PACKAGE / name
    return installed if installed.is_dir() else PACKAGE.parent / name


def checkout_folder() -> Path | None:
    """The top of the git checkout that this package runs from; None for an installed wheel."""
    top = PACKAGE.parent
    return top if (top / ".git").exists() and (top / "pyproject.toml").is_file() else None


def find_trace(path: str) -> Path:
    """The trace file meant by `path`: relative to the working directory, else among the shipped traces.

    Where there is neither, the place that a bare name is expected in, so that an error can list what is there.
    """
    here = Path(path).expanduser()
    shipped = shipped_folder("traces") / here
    if here.exists() or here.is_absolute():
        return here
    return shipped if shipped.exists() or len(here.parts) == 1 else here


def python_path() -> str:
    """Workers import this very package, and a user's own modules from where the command was given."""
    return ":".join([str(PACKAGE.parent), *(path for path in sys.path if path)])
