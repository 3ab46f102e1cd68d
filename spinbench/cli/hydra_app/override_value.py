"""One override as text: its key and its value, in Hydra's grammar."""

import json
import re
from collections.abc import Mapping, Sequence

BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./@-]*(\+[A-Za-z0-9_./@-]+)*")
"""Texts that Hydra's grammar takes unquoted and never for a number."""
WORDS = ("null", "true", "false", "nan", "inf")


def override_value(value: object) -> str:
    """A plain value as the right side of an override."""
    if isinstance(value, str):
        if BARE.fullmatch(value) and value.lower() not in WORDS:
            return value
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{override_value(str(key))}:{override_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(override_value, value)) + "]"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    return json.dumps(value)


def key_of(override: str) -> str:
    """What an override sets: `selector.epoch_s` of `+selector.epoch_s=2`."""
    return override.lstrip("+~").partition("=")[0]


def section_of(override: str) -> str:
    """The first part of what an override sets, which is a section of the config or a group: `selector`."""
    return key_of(override).partition(".")[0].partition("@")[0]
