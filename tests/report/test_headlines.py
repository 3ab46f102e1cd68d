import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from spinbench.report.figures.throughput import throughput_plot
from spinbench.report.headlines import headlines
from spinbench.report.section import load_sections
from spinbench.report.terminal import print_table

from .made_runs import write_made_run


@pytest.fixture(params=["trace", "closed_loop"])
def arrivals(request: pytest.FixtureRequest) -> str:
    return request.param


def _write(root: Path, arrivals: str, busy: float) -> None:
    for method, tpot in (("plain", 30.0), ("spin", 20.0)):
        folder = write_made_run(
            root / method, method, 4, 0, config={"arrivals": {"kind": arrivals}}, engine="simulation"
        )
        path = folder / "summary.json"
        told = {"lane_occupancy": {"target": busy}, "median_tpot_ms": tpot}
        path.write_text(json.dumps({**json.loads(path.read_text()), **told}))


@pytest.mark.parametrize("busy", [0.5, 0.95])
def test_a_server_that_waits_for_requests_is_no_measure_of_speed(tmp_path: Path, arrivals: str, busy: float) -> None:
    _write(tmp_path, arrivals, busy)
    loaded = load_sections([tmp_path])
    (section,), _ = loaded
    waits = arrivals == "trace" and busy < 0.9
    first, *others = headlines(section)
    expected = "At batch 4 the server waits for requests (" if waits else "At batch 4 the fastest is "
    assert first.startswith(expected)
    assert ("least time per output token has **spin**, median 20.0 ms (plain decoding 30.0 ms)" in first) == waits
    assert len(others) == waits
    caption = throughput_plot(section, {"plain": "#111111", "spin": "#222222"}).caption
    assert caption.startswith("One run each;")
    assert ("bars show what was asked for" in caption) == waits
    out = io.StringIO()
    print_table(loaded, Console(file=out, width=200))
    assert ("the server waits" in out.getvalue()) == waits
    assert "bfloat16, simulated" in out.getvalue()
