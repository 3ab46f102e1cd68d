"""Columns of numbers from records that have one attribute for each."""

from collections.abc import Container, Sequence
from dataclasses import fields
from typing import Any

import numpy as np


def number_columns(kind: type[Any], records: Sequence[object], others: Container[str]) -> dict[str, Any]:
    """By name, the columns of the dataclass `kind` but for the `others`, [records] each.

    Those in seconds (`_s`) are float64, the rest int64.
    """
    names = [column.name for column in fields(kind) if column.name not in others]
    return {
        name: np.array([getattr(r, name) for r in records], np.float64 if name.endswith("_s") else np.int64)
        for name in names
    }
