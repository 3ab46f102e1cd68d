"""Bounds of predicted gains, on numbers that are powers of two, whose logarithms are whole numbers of ln 2."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from spinbench.errors import UserError
from spinbench.metrics.tables import RunTables, tables_from_record
from spinbench.report.answer.gain import Error, Gain, drawn_bounds, gain, goodput_error
from spinbench.report.answer.model_error import ProfiledError, ValidatedError, error_of
from spinbench.report.comparison.paired import paired_ratios
from spinbench.report.validation.verdict import VALIDATION_FILE
from tests.metrics.records import request, rounds, span, spans, two_request_record

LN2 = math.log(2)


def test_the_parts_are_added_as_squares_of_logarithms() -> None:
    # down: bootstrap 256 / 64 = 2^2, own error 2^3, the baseline's 2^6: sqrt(4 + 9 + 36) = 7, so 256 / 2^7 = 2
    # up: 512 / 256 = 2^1, 2^4, 2^8: sqrt(1 + 16 + 64) = 9, so 256 x 2^9 = 131072
    found = gain(256.0, (64.0, 512.0), Error(down=3 * LN2, up=4 * LN2), Error(down=8 * LN2, up=6 * LN2))
    assert (found.low, found.high) == pytest.approx((2.0, 131072.0))
    assert found.is_told_apart
    assert 131000.0 in found
    assert 1.9 not in found


def test_a_bootstrap_on_the_other_side_adds_nothing_and_unknown_bounds_are_said() -> None:
    assert gain(2.0, (4.0, 1.0), Error(), Error()) == Gain(2.0, 2.0, 2.0)
    assert gain(2.0, (0.0, 4.0), Error(), Error(down=math.inf)) == Gain(2.0, 0.0, math.inf)
    assert not Gain(1.1, 0.9, 1.3).is_told_apart


def tables(*service_s: float, tokens: int = 10) -> RunTables:
    """Requests that were served for so long, one span of work each."""
    requests = tuple(
        request(f"r{place}", first_scheduled_s=1.0, first_token_s=1.5, finish_s=1.0 + took_s, output_tokens=tokens)
        for place, took_s in enumerate(service_s)
    )
    work = spans(span("target", "verify", 1.0, 2.0))
    return tables_from_record(replace(two_request_record(), requests=requests, rounds=rounds(), spans=work))


def test_requests_are_drawn_in_pairs() -> None:
    # both draws of r0: 20 tokens in 4 s against 2 s = 2; of r1: 8 s against 2 s = 4; one of each: 6 s against 2 s = 3,
    # which is the estimate. 2.5 % of the draws lie beyond neither end: bounds 2/3 and 4/3 of the ratio.
    bounds = drawn_bounds(6.0, tables(1.0, 1.0), tables(2.0, 4.0), None)
    assert bounds == pytest.approx((4.0, 8.0))
    assert drawn_bounds(6.0, tables(1.0, 1.0), tables(2.0, 2.0), None) == pytest.approx((6.0, 6.0))
    assert drawn_bounds(6.0, tables(1.0), tables(2.0), None) == (6.0, 6.0)


def test_an_error_of_latencies_becomes_one_of_goodput() -> None:
    # from arrival (0 s) to the end 2, 3, 5 and 9 s
    run = tables(1.0, 2.0, 4.0, 8.0)
    # within 5 s: three. Twice as long: 4, 6, 10, 18 s: one, a third. Half as long: 1, 1.5, 2.5, 4.5 s: four.
    assert goodput_error(run, {"e2el": 5000.0}, LN2) == Error(
        pytest.approx(math.log(3)), pytest.approx(math.log(4 / 3))
    )
    # 0.5 tokens/s or faster: of 10 tokens (e2el - ttft) / 9
    assert goodput_error(run, {"e2el": 100_000.0}, LN2) == Error(0.0, 0.0)
    assert goodput_error(run, {"e2el": 3000.0}, LN2).down == math.inf
    shares = drawn_bounds(1.0, run, run, {"e2el": 5000.0})
    assert shares == pytest.approx((1.0, 1.0))


def test_a_validation_gives_its_largest_error_and_noise(tmp_path: Path) -> None:
    rows = [("output_throughput", 7.0, 3.0), ("output_throughput", -1.0, 15.0), ("p90_tpot_ms", -3.0, 0.0)]
    frame = pd.DataFrame(
        [(0.5, name, "ratio", 1.0, noise, 1.0, error) for name, error, noise in rows],
        columns=["load", "metric", "kind", "real", "noise", "simulated", "error"],
    )
    frame.to_csv(tmp_path / VALIDATION_FILE, index=False)
    found = ValidatedError.of([tmp_path])
    # 1 + 7 = 2^3 and 1 + 15 = 2^4: sqrt(9 + 16) = 5; of latencies 1 + 3 = 2^2 and nothing
    assert found.log_of(tables(1.0), False) == pytest.approx(5 * LN2)
    assert found.log_of(tables(1.0), True) == pytest.approx(2 * LN2)
    assert error_of(found, tables(1.0), None) == Error(pytest.approx(5 * LN2), pytest.approx(5 * LN2))
    assert "off by at most 700.0%" in found.source
    frame[frame["metric"] != "output_throughput"].to_csv(tmp_path / VALIDATION_FILE, index=False)
    with pytest.raises(UserError, match="has no error of output_throughput"):
        ValidatedError.of([tmp_path])


def test_held_out_errors_count_by_the_time_that_each_kind_of_job_takes() -> None:
    work = spans(span("target", "verify", 0.0, 6.0), span("d1", "draft", 6.0, 7.5), span("d1", "draft", 8.0, 8.5))
    run = tables_from_record(replace(two_request_record(), spans=work))
    # 6 of 8 s at 100 %, 2 of 8 s at 900 %: 0.75 + 2.25 = 3, and 1 + 3 = 2^2
    assert ProfiledError({"verify": 1.0, "draft": 9.0}).log_of(run, False) == pytest.approx(2 * LN2)
    # what the profile has no score of counts as its worst: 6.75 + 2.25 = 9
    assert ProfiledError({"draft": 9.0}).log_of(run, False) == pytest.approx(math.log(10))
    assert error_of(None, run, None) == Error(0.0, 0.0)


def test_ratios_are_within_repeats() -> None:
    runs = pd.DataFrame(
        [("plain", 0, 10.0), ("a", 0, 20.0), ("plain", 1, 20.0), ("a", 1, 30.0), ("plain", 2, 5.0), ("a", 2, None)],
        columns=["method", "repeat", "output_throughput"],
    )
    plain, a = paired_ratios(runs, "plain")
    assert (plain.median, plain.low, plain.high, plain.repeats) == (1.0, 1.0, 1.0, 3)
    assert (a.median, a.low, a.high, a.repeats) == (1.75, 1.5, 2.0, 2)
