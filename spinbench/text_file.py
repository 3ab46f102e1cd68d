"""Text files that are there as a whole or not at all."""

from pathlib import Path

from spinbench.errors import UserError
from spinbench.whole_file import whole_file


def write_text(path: Path, text: str) -> None:
    """Leave `text` in `path`: a temporary file takes its place in one step. Raises UserError if it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
