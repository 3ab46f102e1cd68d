"""Files that are there as a whole or not at all."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to: what is left there takes the place of `path` in one step, unless that fails.

    Raises OSError where it cannot.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Whether it is what a process that was killed in `whole_file` left behind."""
    return re.fullmatch(r"\..+\.\d+\.tmp", path.name) is not None
