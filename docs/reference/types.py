"""Types and ranges of config keys in words, from pydantic's schema of a section or of a class's parameters."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter

GIVEN = ("setting",)
"""Parameters of a class that do not come from the config."""
WORDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "object": "keys"}
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}

Schema = Mapping[str, Any]


def section_types(section: type[BaseModel], kinds: Mapping[str, str] | None = None) -> dict[str, str]:
    """By key with dots, of a section and of the sections in it.

    Of a key that may hold one of several sections, those of the one whose kind is in `kinds`, else of the first.
    """
    whole = section.model_json_schema()
    return _keys(whole, whole, "", kinds or {})


def parameter_types(target: str) -> dict[str, str]:
    """By key, of the class that a `_target_` names."""
    module, _, name = target.rpartition(".")
    made = getattr(import_module(module), name)
    function = made if inspect.isfunction(made) else made.__init__
    function = inspect.unwrap(function)
    hints = get_type_hints(function, include_extras=True)
    named = [name for name in inspect.signature(function).parameters if name in hints and name not in GIVEN]
    found: dict[str, str] = {}
    for parameter in named:
        schema = TypeAdapter(hints[parameter]).json_schema()
        found[parameter] = _words(schema, schema)
    return found


def _keys(schema: Schema, whole: Schema, prefix: str, kinds: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, inner in schema.get("properties", {}).items():
        sections = [one for one in _members(inner, whole) if "properties" in one]
        if sections:
            named = [one for one in sections if one["properties"].get("kind", {}).get("const") == kinds.get(name)]
            found |= _keys((named or sections)[0], whole, f"{prefix}{name}.", kinds)
        else:
            found[f"{prefix}{name}"] = _words(inner, whole)
    return found


def _members(schema: Schema, whole: Schema) -> list[Schema]:
    """The alternatives that a schema offers, without references."""
    if "$ref" in schema:
        return _members(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    return [one for inner in alternatives for one in _members(inner, whole)] if alternatives else [schema]


def _words(schema: Schema, whole: Schema) -> str:
    return " or ".join(dict.fromkeys(_one(member, whole) for member in _members(schema, whole)))


def _one(schema: Schema, whole: Schema) -> str:
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kind = schema.get("type")
    if kind == "null":
        return "null"
    if kind == "array":
        items = schema.get("items")
        least, most = schema.get("minItems"), schema.get("maxItems")
        count = f" of {least}" if least is not None and least == most else ", not empty" if least else ""
        return f"list{count}" + (f" (each {_words(items, whole)})" if items else "")
    if kind == "string" and "pattern" in schema:
        return "MODULE.NAME"
    bounds = [f"{sign} {schema[name]:g}" for name, sign in BOUNDS.items() if name in schema]
    return " ".join([WORDS.get(str(kind), "any"), ", ".join(bounds)]).strip()
