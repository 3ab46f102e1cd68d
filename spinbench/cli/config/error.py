"""What pydantic found wrong with a config, in one line that names the key, the value and what would be right."""

import dataclasses
import json
import types
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from spinbench.dotted_name import DOTTED_NAME

MAX_SHOWN_CHARS = 60
"""Characters of a wrong value that an error quotes."""

UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
MISSING = ("missing", "missing_keyword_only_argument", "missing_argument")

EXPECTED = {
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "dataclass_type": "keys and values",
    "finite_number": "a finite number",
    "none_required": "null",
}
"""What would be right, by pydantic's error type."""

BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}


def explain_validation_error(error: ValidationError, prefix: str = "", schema: Any = None) -> str:
    """One line for the first key that is wrong; an unknown key goes first, since it explains a missing one.

    `prefix` is put before keys (`selector.`); `schema` is the model class, by which unknown keys get their choices.
    """
    errors = error.errors(include_url=False)
    first = next((details for details in errors if details["type"] in UNKNOWN), errors[0])
    location = _own_location(first, schema)
    key = prefix + _dotted(location)
    if first["type"] in UNKNOWN:
        known = field_names(schema, location[:-1] if schema is None else first["loc"][:-1])
        parent = (prefix + _dotted(location[:-1])).rstrip(".")
        choices = f"; keys{f' of {parent}' if parent else ''} are {', '.join(known)}" if known else ""
        return f"unknown key {key!r}{choices}"
    if first["type"] in MISSING:
        return f"{key} is missing"
    # a union fails once per member: what any of them would take is right
    same = [details for details in errors if _own_location(details, schema) == location]
    expected = " or ".join(dict.fromkeys(_expected(details) for details in same))
    return f"{key} is {shown(first['input'])}; it must be {expected}"


def shown(value: object) -> str:
    """The value as one would write it, short enough for one line."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."


def field_names(schema: Any, location: Sequence[int | str] = ()) -> list[str]:
    """The keys of a model or dataclass, or of the one inside it at `location`; empty where that is neither."""
    for part in location:
        tagged = [member for member in get_args(schema) if _tag(member) == part]
        schema = tagged[0] if tagged else _fields(schema).get(str(part), schema)
    return list(_fields(schema))


def _tag(member: Any) -> str | None:
    """What pydantic puts into a location for a tagged member of a union."""
    tags = [mark.tag for mark in getattr(member, "__metadata__", ()) if isinstance(mark, Tag)]
    return tags[0] if tags else None


def _fields(schema: Any) -> dict[str, Any]:
    """Field names and types."""
    if get_origin(schema) is Annotated:
        schema = get_args(schema)[0]
    if get_origin(schema) in (Union, types.UnionType):
        schema = next((member for member in get_args(schema) if _fields(member)), None)
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return {name: field.annotation for name, field in schema.model_fields.items()}
    if isinstance(schema, type) and dataclasses.is_dataclass(schema):
        return {field.name: field.type for field in dataclasses.fields(schema)}
    return {}


def _own_location(details: ErrorDetails, schema: Any) -> tuple[int | str, ...]:
    """The location without the names that pydantic gives to the members of a union."""
    if schema is None:
        return details["loc"][:1]
    return tuple(part for part in details["loc"] if isinstance(part, int) or part.isidentifier())


def _dotted(location: Sequence[int | str]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _expected(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind in BOUNDS:
        sign, name = BOUNDS[kind]
        return f"{sign} {context[name]:g}"
    if kind == "literal_error":
        return "one of " + str(context["expected"]).replace("'", "").replace(" or ", ", ")
    if kind == "string_pattern_mismatch" and context["pattern"] == DOTTED_NAME:
        return "a dotted name (MODULE.NAME)"
    if kind in ("too_short", "string_too_short"):
        return "not empty"
    return EXPECTED.get(kind) or details["msg"][:1].lower() + details["msg"][1:]
