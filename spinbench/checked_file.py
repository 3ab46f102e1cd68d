"""Files of keys and values that are written by hand or by an earlier version, and what is wrong with them."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from spinbench.errors import UserError


def read_yaml(path: Path, missing: str) -> Any:
    """What a YAML file holds, unchecked. Raises UserError: `missing` when it is not there, else what is wrong."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(missing) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def error_in(path: Path, error: ValidationError) -> UserError:
    """The error to raise for a file that does not fit its model: it names the first key that is wrong."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"])) or "the file"
    return UserError(f"{path}: {key}: {first['msg'][:1].lower()}{first['msg'][1:]}")
