"""JSON files that are there as a whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spinbench.errors import UserError
from spinbench.text_file import write_text


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    """Leave `content` in `path`: a temporary file takes its place in one step. Raises UserError if it cannot."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


def read_json(path: Path, missing: str | None = None) -> dict[str, Any]:
    """The object in a JSON file.

    Raises UserError when it cannot be read, is damaged or holds something else, and, with the message `missing` if one
    is given, when it is not there.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and missing is not None:
            raise UserError(missing) from None
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
