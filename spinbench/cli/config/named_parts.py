"""Makes what a config names by `_target_`: selectors, draft-length policies, layouts, ours or a user's own."""

import inspect
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pydantic import ValidationError

from spinbench.cli.config.error import explain_validation_error
from spinbench.dotted_name import import_dotted
from spinbench.errors import UserError


def make_part(key: str, section: Mapping[str, Any], **given: object) -> Any:
    """The object that `section` of the config describes, built from its parameters and what it names of `given`.

    Raises UserError when there is no such class, or a parameter is unknown, missing or wrong.
    """
    target = section.get("_target_")
    if not isinstance(target, str) or not target:
        raise UserError(f"{key}._target_ is {target!r}; it must be the dotted name of a class")
    made = import_dotted(f"{key}._target_", target, "class")
    given = _wanted(made, given)
    _check_names(key, target, made, set(section) - {"_target_"}, set(given))
    try:
        if any("_target_" in repr(value) for key, value in section.items() if key != "_target_"):
            # partial: Hydra would turn the dataclasses among `given` into plain mappings
            return instantiate({**section, "_partial_": True}, _convert_="all")(**given)
        # the same where no part is inside the part, without the config containers that cost more than the part itself
        return made(**{key: value for key, value in section.items() if key != "_target_"}, **given)
    except ValidationError as error:
        raise UserError(explain_validation_error(error, prefix=f"{key}.")) from error
    except InstantiationException as error:
        raise UserError(f"{key}: {' '.join(str(error).split())}") from error


def is_part(section: Mapping[str, Any], kind: type) -> bool:
    """Whether `section` of a config describes an object of that very class."""
    return section.get("_target_") == f"{kind.__module__}.{kind.__qualname__}"


def _wanted(made: Any, given: Mapping[str, object]) -> dict[str, object]:
    """Those of the offered objects that a class takes: a fixed draft length needs to know nothing of the run."""
    if not callable(made):
        return {}
    parameters = inspect.signature(made).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(given)
    return {name: value for name, value in given.items() if name in parameters}


def _check_names(key: str, target: str, made: Any, named: set[str], given: set[str]) -> None:
    if not callable(made):
        raise UserError(f"{key}._target_ is {target}; that is no class")
    parameters = inspect.signature(made).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    own = [name for name in parameters if name not in given]
    for name in sorted(named):
        if name not in own:
            keys = f"keys of {key} are {', '.join(own)}" if own else f"{target.rpartition('.')[2]} takes none"
            raise UserError(f"unknown key '{key}.{name}'; {keys}")
    for name in own:
        if name not in named and parameters[name].default is inspect.Parameter.empty:
            raise UserError(f"{key}.{name} is missing")
