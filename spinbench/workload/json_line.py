"""JSON Lines checked against a pydantic model, each mistake told in one line that names file, line and key."""

import json
from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from spinbench.workload.trace_file import TraceFile

Line = TypeVar("Line", bound=BaseModel)

MAX_SHOWN_CHARS = 60
"""Characters of a wrong value that an error quotes."""

HALF_PAIR = "holds half of a surrogate pair, which is no Unicode text"

EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "finite_number": "a finite number",
}
"""What would be right, by pydantic's error type."""


def parse_json_lines(file: TraceFile, model: type[Line]) -> Iterator[tuple[int, Line]]:
    """Each line as a checked `model`, with its number. Raises UserError at the first bad line."""
    for number, line in file.lines():
        try:
            yield number, model.model_validate_json(line)
        except ValidationError as error:
            raise file.error(number, explanation(error.errors(include_url=False), model)) from None


def shown(value: object) -> str:
    """The value as JSON, short enough for one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."


def has_half_pair(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, which is no Unicode text and breaks whoever encodes it."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def explanation(errors: list[ErrorDetails], model: type[BaseModel]) -> str:
    """What is wrong with one line or item of `model`, in one line: the first error, or the one that says most."""
    # A misspelled key is unknown under one name and missing under the other: the unknown one says more.
    error = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    key = _key(error["loc"])
    keys = ", ".join(model.model_fields)
    match kind:
        case "json_invalid":
            return f"not JSON: {str(context['error']).replace(' line 1 ', ' ')}"
        case "string_unicode":
            return HALF_PAIR
        case "model_type" if key:
            return f"{key} is {shown(value)}; it must be a JSON object"
        case "model_type":
            return f"{shown(value)} is not a JSON object; its keys would be {keys}"
        case "extra_forbidden":
            return f"unknown key {shown(error['loc'][-1])}; keys are {keys}"
        case "missing" if len(error["loc"]) > 1:
            return f"{key} is missing"
        case "missing":
            required = ", ".join(name for name, field in model.model_fields.items() if field.is_required())
            return f"{key} is missing; every line needs {required}"
        case "greater_than_equal":
            return f"{key} is {shown(value)}; it must be >= {_bound(context['ge'])}"
        case "less_than_equal":
            return f"{key} is {shown(value)}; it must be <= {_bound(context['le'])}"
        case "string_too_short" | "too_short":
            return f"{key} is empty; leave it out or give at least one element"
        case _ if kind in EXPECTED:
            return f"{key} is {shown(value)}; it must be {EXPECTED[kind]}"
        case _:
            return f"{key} is {shown(value)}; {error['msg'][:1].lower()}{error['msg'][1:]}"


def _key(location: tuple[int | str, ...]) -> str:
    """`conversations[3].value` for that key of the fourth element."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _bound(limit: object) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)
