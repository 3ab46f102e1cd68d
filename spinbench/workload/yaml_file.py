"""A YAML file checked against a pydantic model, each mistake told in one line that names file, line and key."""

from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from spinbench.workload.json_line import HALF_PAIR, has_half_pair, shown
from spinbench.workload.trace_file import TraceFile

MAX_DEPTH = 8

Content = TypeVar("Content", bound=BaseModel)


def parse_yaml(file: TraceFile, model: type[Content]) -> Content:
    """The file's mapping as a checked `model`, whose fields are numbers, texts and mappings.

    Scalars are taken as text and turned into what the model says, so nothing is guessed. Raises UserError.
    """
    try:
        root = yaml.compose(file.text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        context = f" {error.context}" if error.context and error.problem else ""
        begin = f" from line {_line(file, error.context_mark)} on" if context and error.context_mark else ""
        message = f"not YAML: {error.problem or error.context}{context}{begin}"
        raise file.error(1 if mark is None else _line(file, mark), message) from None
    except yaml.YAMLError as error:
        raise file.error(1, f"not YAML: {' '.join(str(error).split())}") from None
    except (ValueError, OverflowError, RecursionError):
        # A code point that does not exist, brackets nested by the thousand.
        raise file.error(1, "not YAML that can be read: a wrong escape or nesting too deep") from None
    if not isinstance(root, yaml.MappingNode):
        raise file.error(1, f"the file must hold keys and values; the keys are {', '.join(model.model_fields)}")
    content = _plain(file, root, depth=0)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        line_number, key = _place(file, root, first)
        raise file.error(line_number, _explanation(first, key)) from None


def _line(file: TraceFile, mark: yaml.Mark) -> int:
    """Line number as every reader counts: YAML itself ends lines at more characters than a line feed."""
    return file.text.count("\n", 0, mark.index) + 1


def _plain(file: TraceFile, node: yaml.MappingNode, depth: int) -> dict[str, object]:
    """A mapping of text and mappings. Raises UserError for lists, for keys given twice, and for what is too deep."""
    values: dict[str, object] = {}
    for key_node, value_node in node.value:
        line_number = _line(file, key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            raise file.error(line_number, "a key must be a single word")
        if key_node.value in values:
            raise file.error(line_number, f"the key {shown(key_node.value)} is there twice")
        if has_half_pair(key_node.value) or has_half_pair(str(value_node.value)):
            raise file.error(line_number, HALF_PAIR)
        if isinstance(value_node, yaml.ScalarNode):
            values[key_node.value] = value_node.value
        elif isinstance(value_node, yaml.MappingNode) and depth < MAX_DEPTH:
            values[key_node.value] = _plain(file, value_node, depth + 1)
        else:
            raise file.error(line_number, f"{key_node.value} must be a number, a text or a few keys and values")
    return values


def _place(file: TraceFile, root: yaml.MappingNode, error: ErrorDetails) -> tuple[int, str]:
    """Line number and dotted name of the key that an error is about; a key that is missing is told at its mapping."""
    location = error["loc"]
    node: yaml.Node = root
    line_number = _line(file, root.start_mark)
    names = []
    # What is no key is the name of a choice, which pydantic puts into the location.
    for index, part in enumerate(location):
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
        if found is not None:
            names.append(str(part))
            line_number, node = _line(file, found[0].start_mark), found[1]
        elif error["type"] == "missing" and index == len(location) - 1:
            names.append(str(part))
    return line_number, ".".join(names)


def _explanation(error: ErrorDetails, key: str) -> str:
    kind, message = error["type"], error["msg"]
    if kind == "missing":
        return f"{key} is missing"
    if kind == "extra_forbidden":
        return f"unknown key {shown(key)}"
    if kind == "value_error":
        return f"{key}: {error.get('ctx', {}).get('error', message)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"{key}: {message[:1].lower()}{message[1:]}"
    return f"{key} is {shown(error['input'])}; {message[:1].lower()}{message[1:]}"
