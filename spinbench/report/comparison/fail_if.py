"""Conditions under which a comparison fails: `output_throughput < 0.97x`."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from spinbench.errors import UserError

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FORM = "METRIC OP NUMBER, NUMBERx or NUMBER%, e.g. 'output_throughput < 0.97x'; OP is <, <=, > or >="
CONDITION = re.compile(r"\s*([^\s<>=]+)\s*(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(x|%)?\s*")


@dataclass(frozen=True)
class Condition:
    """When B fails: by its own value, by its ratio to A (`x`), or by its change from A (`%`)."""

    text: str
    metric: str
    comparison: str
    limit: float
    unit: Literal["", "x", "%"]

    def holds(self, before: float | None, after: float | None, where: str) -> bool:
        """Whether it holds for the metric in A (`before`) and in B. Raises UserError when one that it needs is missing.

        A ratio to 0 is infinite, or 1 where both are 0.
        """
        for name, value in (("A", before if self.unit else 0.0), ("B", after)):
            if value is None:
                raise UserError(f"--fail-if '{self.text}': {self.metric} has no value in {name}{where}")
        assert after is not None
        if not self.unit:
            return OPERATORS[self.comparison](after, self.limit)
        assert before is not None
        ratio = after / before if before else (1.0 if after == before else float("inf"))
        limit = self.limit if self.unit == "x" else 1 + self.limit / 100
        return OPERATORS[self.comparison](ratio, limit)


def unknown_metric(metric: str, known: Iterable[str]) -> str:
    """What is said of a metric that is none of the `known` ones: the nearest of them, and all."""
    names = sorted(known)
    near = get_close_matches(metric, names, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"no metric {metric!r}; {hint}metrics are {', '.join(names)}"


def parse_condition(text: str, known: Mapping[str, object]) -> Condition:
    """The condition that `text` states of one of the `known` metrics. Raises UserError."""
    found = CONDITION.fullmatch(text)
    if found is None:
        raise UserError(f"--fail-if {text!r} cannot be read; write {FORM}")
    metric, comparison, number, unit = found.groups()
    if metric not in known:
        raise UserError(f"--fail-if {text!r}: {unknown_metric(metric, known)}")
    if unit == "x" and float(number) <= 0:
        raise UserError(f"--fail-if {text!r}: the factor is {number}; it must be > 0")
    return Condition(text.strip(), metric, comparison, float(number), "x" if unit == "x" else "%" if unit else "")
