from dataclasses import replace
from pathlib import Path

import pytest

from spinbench.control.records.round_record import RoundColumns
from spinbench.control.records.run_record import RunRecord
from spinbench.control.records.span_record import SpanColumns
from spinbench.report.page import write_report
from tests.undrawn import undrawn

from .made_runs import made_record, with_other_output, write_made_run, write_made_runs, write_made_sweep

__all__ = ["undrawn"]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four methods at batch 1 and 4 with two repeats, and a peer that keeps no rounds."""
    root = write_made_runs(
        tmp_path_factory.mktemp("runs"),
        ("plain", "fixed smollm2-d256-code", "prompt lookup", "spin"),
        (1, 4),
        repeats=2,
    )
    write_made_run(
        root / "hf", "hf generate", 4, 0, peer_record(), engine="hf", num_speculative_tokens=None, verification=None
    )
    return root


@pytest.fixture(scope="session")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Markdown page of the runs, beside which is the HTML."""
    return write_report([runs], tmp_path_factory.mktemp("report"), title="Plain against spin")


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over methods, K, layouts and three request rates, summaries only."""
    return write_made_sweep(tmp_path_factory.mktemp("sweep") / "points", rates=(1.0, 2.0, 4.0))


@pytest.fixture(scope="session")
def sweep_page(sweep: Path) -> Path:
    """The Markdown page of the sweep."""
    return write_report([sweep], sweep.parent)


def peer_record() -> RunRecord:
    """What a peer without rounds or spans leaves: all tokens come out of its one call."""
    record = made_record("plain", 4, 0)
    requests = tuple(replace(r, num_prefill_emitted_tokens=r.output_tokens) for r in record.requests)
    return replace(record, requests=requests, rounds=RoundColumns.of([]), spans=SpanColumns.of([]))


@pytest.fixture(scope="session")
def lossy_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain decoding, and a method that has one token of request q003 wrong."""
    root = tmp_path_factory.mktemp("lossy")
    write_made_run(root / "plain", "plain", 4, 0)
    write_made_run(root / "spin", "spin", 4, 0, with_other_output(made_record("spin", 4, 0), "q003", 7))
    return root
