"""Non-negative least squares of relative errors: a millisecond counts as much in 10 ms as a second in 10 s."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

EXPECTED_WEIGHT = 0.2
"""An expected coefficient may be wrong by five times the relative error that a row may have."""

Name = TypeVar("Name", bound=Hashable)


def relative_nnls(features: Sequence[Sequence[float]], values: Sequence[float], scale: Sequence[float]) -> list[float]:
    """Coefficients >= 0 that minimise the sum of ((features @ coefficients - values) / scale) ** 2."""
    from scipy.optimize import nnls  # imported where it is needed: it takes a second

    matrix = np.array(features, float) / np.array(scale, float)[:, None]
    size = np.linalg.norm(matrix, axis=0)
    size[size == 0] = 1.0
    solved, _ = nnls(matrix / size, np.array(values, float) / np.array(scale, float))
    return (solved / size).tolist()


def named_nnls(rows: Sequence[tuple[Mapping[Name, float], float]], expected: Mapping[Name, float]) -> dict[Name, float]:
    """Coefficients >= 0 by name, for rows of (features by name, positive value); absent features are 0.

    `expected` coefficients are drawn to their values, each like one more row of the weight `EXPECTED_WEIGHT`.
    """
    names = list(dict.fromkeys(name for features, _ in rows for name in features))
    matrix = [[features.get(name, 0.0) for name in names] for features, _ in rows]
    values = [value for _, value in rows]
    for name, value in expected.items():
        if name in names:
            matrix.append([float(name == other) for other in names])
            values.append(value)
    scale = [*(value for _, value in rows), *(value / EXPECTED_WEIGHT for value in values[len(rows) :])]
    return dict(zip(names, relative_nnls(matrix, values, scale), strict=True))
