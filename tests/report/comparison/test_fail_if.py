"""Conditions of `--fail-if`, read and applied."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinbench.errors import UserError
from spinbench.report.comparison.fail_if import parse_condition

KNOWN = {"output_throughput": None, "p99_ttft_ms": None, "lane_occupancy.a+b": None}


@pytest.mark.parametrize(
    ("text", "before", "after", "holds"),
    [
        ("output_throughput < 0.97x", 100, 96, True),
        ("output_throughput < 0.97x", 100, 97, False),
        ("output_throughput<=0.97x", 100, 97, True),
        ("p99_ttft_ms > 10%", 100, 111, True),
        ("p99_ttft_ms > 10%", 100, 109, False),
        ("output_throughput < -3 %", 100, 96, True),
        ("p99_ttft_ms >= 2e2", None, 200, True),
        ("lane_occupancy.a+b > .5", 0.1, 0.4, False),
        ("p99_ttft_ms > 1x", 0, 0, False),
        ("p99_ttft_ms > 1x", 0, 1, True),
    ],
)
def test_a_condition(text: str, before: float | None, after: float, holds: bool) -> None:
    assert parse_condition(text, KNOWN).holds(before, after, "") == holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("output_throughput", "cannot be read; write METRIC OP NUMBER"),
        ("output_throughput == 1", "cannot be read"),
        ("output_throughput < 1 y", "cannot be read"),
        ("output_throughput < __import__('os')", "cannot be read"),
        ("speed < 1", "no metric 'speed'; metrics are lane_occupancy.a+b, output_throughput, p99_ttft_ms"),
        ("output_througput < 1", "no metric 'output_througput'; did you mean output_throughput? metrics are lane"),
        ("output_throughput < -1x", "the factor is -1; it must be > 0"),
    ],
)
def test_a_condition_that_is_none(text: str, said: str) -> None:
    with pytest.raises(UserError, match=r"--fail-if") as error:
        parse_condition(text, KNOWN)
    assert said in str(error.value)


def test_a_value_that_is_missing() -> None:
    with pytest.raises(UserError, match="output_throughput has no value in A at K=2"):
        parse_condition("output_throughput < 1x", KNOWN).holds(None, 1.0, " at K=2")


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(UserError):
        assert parse_condition(text, KNOWN).metric in KNOWN
