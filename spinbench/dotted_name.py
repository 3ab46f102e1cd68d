"""What a config names by a dotted name: a class or function of ours, or of a module of the user's own."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spinbench.errors import UserError

DOTTED_NAME = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
"""MODULE.NAME, where MODULE may be in packages."""


def is_dotted_name(text: str) -> bool:
    """Whether it reads as MODULE.NAME; a path or a hub's OWNER/NAME does not."""
    return re.fullmatch(DOTTED_NAME, text) is not None


def import_dotted(key: str, name: str, what: str) -> Any:
    """The object called `name`, which the config's `key` says is a `what` (class, reader, ...).

    Raises UserError when the module cannot be found or read, or lacks it. What else goes wrong in the module's own
    code is raised as it is: it is the author who has to see where.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except SyntaxError as error:
        raise UserError(f"{key} is {name}; {error.filename}:{error.lineno}: {error.msg}") from error
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{key} is {name}; there is no such {what} that can be imported ({error}); modules are looked for in the "
            "folder of --config-dir and in PYTHONPATH"
        ) from error


def source_of(name: str) -> Path | None:
    """The file of the module that a dotted name is in; None for a module of spinbench, or without a file."""
    module = name.rpartition(".")[0]
    if not module or module.partition(".")[0] == "spinbench":
        return None
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # of a package that it is in; who imports it will say so
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)
