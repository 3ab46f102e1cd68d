"""Text files that are there as a whole or not at all."""

import os
import re
from pathlib import Path

from spinbench.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Leave `text` in `path`: a temporary file takes its place in one step. Raises UserError if it cannot."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def is_unfinished(path: Path) -> bool:
    """Whether it is what a process that was killed in `write_text` left behind."""
    return re.fullmatch(r"\..+\.\d+\.tmp", path.name) is not None
