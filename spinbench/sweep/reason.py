"""Reasons of failures that are the same but for the names and numbers in them."""

import re
from collections.abc import Iterable
from typing import TypeVar

PARTICULARS = re.compile(r"'[^']*'|\d+(?:\.\d+)?")
"""What differs: requests by name, blocks by number."""

T = TypeVar("T")


def by_reason(pairs: Iterable[tuple[T, str]]) -> list[tuple[list[T], str]]:
    """Of (who, why) those with the same reason together, in order; of each the first text."""
    found: dict[str, tuple[list[T], str]] = {}
    for who, why in pairs:
        found.setdefault(PARTICULARS.sub("", why), ([], why))[0].append(who)
    return list(found.values())
