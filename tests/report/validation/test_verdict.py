import re
from pathlib import Path

import pandas as pd
import pytest

from spinbench.errors import UserError
from spinbench.metrics.validation import RoundsCompared
from spinbench.report.page import write_report
from spinbench.report.validation.verdict import (
    VALIDATION_FILE,
    decision_lines,
    find_validation,
    headlines,
    is_judged,
    limit,
    read_verdict,
)
from tests.report.made_runs import write_made_run

ROWS = [
    # load, metric, kind, real, noise, simulated, error
    (0.7, "output_throughput", "ratio", 100.0, 0.10, 102.0, 0.02),
    (0.7, "median_ttft_ms", "ratio", 50.0, 0.10, 54.0, 0.08),
    (0.7, "padding_share", "difference", 0.2, 0.01, 0.9, 0.7),
    (1.0, "output_throughput", "ratio", 100.0, 0.10, 104.0, 0.04),
    (1.0, "p90_tpot_ms", "ratio", 20.0, 0.01, 21.2, 0.06),
    (1.5, "output_throughput", "ratio", 100.0, 0.01, 150.0, 0.5),
]
COLUMNS = ["load", "metric", "kind", "real", "noise", "simulated", "error"]


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    folder = tmp_path / "validation"
    folder.mkdir()
    pd.DataFrame(ROWS, columns=COLUMNS).to_csv(folder / VALIDATION_FILE, index=False)
    return folder


def test_noise_excuses_a_latency_but_no_throughput() -> None:
    assert limit("median_ttft_ms", 0.10) == 0.10
    assert limit("median_ttft_ms", 0.01) == 0.05
    assert limit("median_ttft_ms", float("nan")) == 0.05
    assert limit("output_throughput", 0.10) == 0.03


def test_beyond_capacity_nothing_is_judged() -> None:
    assert is_judged(1.0, "p90_tpot_ms")
    assert not is_judged(1.5, "p90_tpot_ms")
    assert not is_judged(1.0, "p99_tpot_ms")


def test_the_headlines_count_and_name_what_is_outside() -> None:
    first, *loads = headlines(pd.DataFrame(ROWS, columns=COLUMNS))
    # judged: throughput 0.7 (2 <= 3 %), TTFT (8 <= 10 %), throughput 1 (4 > 3 %), TPOT (6 > 5 %)
    assert first == (
        "2 of 4 judged figures are within their limits; outside: output_throughput at load 1 (+4.0%), "
        "p90_tpot_ms at load 1 (+6.0%)"
    )
    assert [line.split(":")[0] for line in loads] == ["load 0.7", "load 1", "load 1.5"]


@pytest.mark.usefixtures("undrawn")
def test_a_report_shows_the_verdict_and_leads_to_the_validation(validation: Path, tmp_path: Path) -> None:
    page = write_report([write_made_run(tmp_path / "run", "plain", 1, 0)], tmp_path / "report", validation)
    text = page.read_text()
    section = text[text.index("## How true the simulator is") :]
    assert "2 of 4 judged figures" in section
    assert [len(re.findall(rf"\| {word} +\|", section)) for word in ("yes", "NO")] == [2, 2]
    assert "[the whole validation](../validation/report.md)" in section
    assert "padding_share" not in section
    assert '<a href="../validation/report.html">the whole validation</a>' in page.with_name("report.html").read_text()
    assert find_validation([tmp_path, validation]) == validation


def test_no_validation_a_damaged_one_and_a_foreign_file_are_refused(validation: Path) -> None:
    with pytest.raises(UserError, match="no such file; give the folder of a finished"):
        read_verdict(validation / "elsewhere")
    (validation / VALIDATION_FILE).write_text("load,metric\n1,output_throughput\n")
    with pytest.raises(UserError, match="has no column kind"):
        read_verdict(validation)
    (validation / VALIDATION_FILE).write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        read_verdict(validation)


def test_runs_whose_decisions_were_the_same_share_a_line() -> None:
    same, other = RoundsCompared(700, 700, None), RoundsCompared(500, 500, None)
    differs, lost = RoundsCompared(300, 120, "drafter of round 40"), RoundsCompared(0, 0, "job 97 is draft here")
    assert decision_lines(0.7, [same, other]) == [
        "load 0.7: 1,200 of 1,200 (round, request) pairs equal, in 2 of 2 runs"
    ]
    assert decision_lines(1.0, [same, differs, lost]) == [
        "load 1: 700 of 700 (round, request) pairs equal, in 1 of 3 runs",
        "load 1: 120 of 300 (round, request) pairs equal; first difference: drafter of round 40",
        "load 1: the two part ways: job 97 is draft here",
    ]
