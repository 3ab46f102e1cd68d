"""A JSON array checked item by item against a pydantic model, each mistake told in one line with file and line."""

import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from spinbench.errors import UserError
from spinbench.workload.json_line import HALF_PAIR, explanation, has_half_pair, shown
from spinbench.workload.trace_file import TraceFile

Item = TypeVar("Item", bound=BaseModel)

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
SPACE = re.compile(r"[ \t\r\n]*")


def parse_json_array(file: TraceFile, model: type[Item]) -> Iterator[tuple[int, Item]]:
    """Each item of the array that the file holds as a checked `model`, with the number of the line it begins on.

    The models' lists are `list`: values are checked as Python objects. Raises UserError at the first mistake.
    """
    for line_number, value in _items(file):
        try:
            yield line_number, model.model_validate(value)
        except ValidationError as error:
            raise file.error(line_number, explanation(error.errors(include_url=False), model)) from None


def _items(file: TraceFile) -> Iterator[tuple[int, Any]]:
    """Line number and value of each item. One item at a time, so that its place in the file is known."""
    decoder = json.JSONDecoder()
    text = file.text
    place = _skip_space(text, 0)
    line_number, counted_to = 1, 0
    if text[place : place + 1] != "[":
        raise _error_at(
            file, place, f"the file begins with {shown(text[place : place + 20])}; it must be a JSON array, [...]"
        )
    place = _skip_space(text, place + 1)
    if text[place : place + 1] == "]":
        raise _error_at(file, place, "the array is empty; a trace needs at least one request")
    while True:
        line_number += text.count("\n", counted_to, place)
        counted_to = place
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise file.error(error.lineno, f"not JSON: {error.msg} at column {error.colno}") from None
        except (ValueError, RecursionError):
            # Numbers of thousands of digits, brackets nested by the thousand.
            raise file.error(line_number, "not JSON that can be read: a number too long or nesting too deep") from None
        if SURROGATE.search(text, counted_to, place) and has_half_pair(json.dumps(value, ensure_ascii=False)):
            raise file.error(line_number, HALF_PAIR)
        yield line_number, value
        place = _skip_space(text, place)
        mark = text[place : place + 1]
        if mark not in (",", "]") or not mark:
            raise _error_at(file, place, "an item of the array must be followed by , or ]")
        place = _skip_space(text, place + 1)
        if mark == "]":
            if place < len(text):
                raise _error_at(file, place, "nothing may follow the array")
            return


def _skip_space(text: str, place: int) -> int:
    found = SPACE.match(text, place)
    return place if found is None else found.end()


def _error_at(file: TraceFile, place: int, message: str) -> UserError:
    return file.error(file.text.count("\n", 0, place) + 1, message)
