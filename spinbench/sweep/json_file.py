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


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` left there. Raises UserError when it is missing, damaged or not an object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
