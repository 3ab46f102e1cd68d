"""What is to be run on a GPU runs in miniature without one: kernels interpreted, graphs uncaptured."""

import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

pytest.importorskip("triton")
from benchmarks.gpu import kernel_checks, losslessness, serving, turns
from benchmarks.gpu.__main__ import PARTS, main
from benchmarks.gpu.figure import FIGURES, judged
from benchmarks.gpu.part import Allowance, NotMeasured, Part, Row, measured
from benchmarks.gpu.scene import Scene, largest_target
from benchmarks.gpu.summary import TO_SHOW, in_one_line, verdicts, write_summary
from benchmarks.gpu.turns import Replayed, Turns
from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.hydra_app.app import Point, check_each, compose_points
from spinbench.cli.replay.command import Replay
from spinbench.json_file import write_json
from spinbench.sweep.folder import FAILURE_FILE, POINT_FILE, SweepFolder
from spinbench.sweep.point import SweepPoint


def test_kernels_graphs_and_models_in_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["--miniature", "--out", str(tmp_path), "--parts", "steps,drafts,waits,overlap,kernels,bandwidth,layouts"])
        == 0
    )
    assert capsys.readouterr().out.count(": measured") == 7
    kernels = pd.read_csv(tmp_path / "kernels.csv")
    assert kernels["right"].all()
    assert set(kernels["case"]) == {"whole contexts", "draft step", "verification", "pieces", "tree"}
    assert set(kernels["dtype"]) == {"float32", "bfloat16"}
    layouts = pd.read_csv(tmp_path / "layouts.csv")
    assert {"packed", "padded", "grouped", "decomposed"} == set(layouts["layout"])
    assert list(pd.read_csv(tmp_path / "steps.csv")["rows_per_request"]) == [1, 5, 1, 5]
    meta = yaml.safe_load((tmp_path / "meta.yaml").read_text())
    assert meta["miniature"]
    assert meta["copy_bytes_per_s"] > 0
    page = (tmp_path / "summary.md").read_text()
    assert "no GPU: times mean nothing" in page
    assert "*Not measured*: not asked for" in page
    assert "plain step at batch 1, times the memory's limit" in page
    # all that a CPU can be judged by: kernels; answers were not asked for
    assert "**Bars met: 1 of 12. Missed: 0. Not measured: 4. Not judged without a GPU: 7.**" in page


def test_figures_are_read_off_the_tables() -> None:
    table = pd.DataFrame(
        {
            "batch": [1, 1], "rows_per_request": [1, 5], "device_ms": [2.0, 2.5], "times_the_limit": [1.1, 1.3],
            "host_share": [0.04, 0.03],
        }
    )  # fmt: skip
    parts = {name: Part(name, None, "no time", 0.0) for name in PARTS}
    found = judged(parts | {"steps": Part("steps", table, None, 1.0)}, on_gpu=True)
    assert [(one.figure.what, one.value, one.verdict) for one in found if one.value is not None] == [
        ("plain step at batch 1, times the memory's limit", 1.1, "met"),
        ("verification of 5 tokens over a plain step, batch 1", 1.25, "missed"),
        ("host share of a plain step, batch 1", 0.04, "met"),
        ("worst step of all batches, times the memory's limit", 1.3, "no bar"),
    ]
    assert {one.verdict for one in found if one.value is None} == {"not measured: no time"}
    assert in_one_line(found) == (
        "Bars met: 2 of 12. Missed: 1 (verification of 5 tokens over a plain step, batch 1: 1.25, bar <= 1.10). "
        "Not measured: 9."
    )


def test_every_bar_is_met_or_missed_by_its_own_table() -> None:
    """Tables as the parts leave them, all of whose figures reach their bars, and then none does."""
    tables = {
        "steps": [
            {"batch": 1, "rows_per_request": rows, "device_ms": ms, "times_the_limit": 1.1, "host_share": 0.01}
            for rows, ms in ((1, 2.0), (5, 2.1))
        ],
        "drafts": [{"batch": 1, "device_us_per_token": 120.0}, {"batch": 8, "device_us_per_token": 300.0}],
        "waits": [{"batch": 1, "in_a_draft": 0, "in_a_verification": 1}],
        "overlap": [{"gain": 1.1}],
        "kernels": [{"right": True}, {"right": True}],
        "bandwidth": [{"share_of_copy": 0.8}, {"share_of_copy": 0.71}],
        "layouts": [
            {"layout": "padded", "by": "torch", "time_us": 9.0},
            {"layout": "decomposed", "by": "kernels", "time_us": 3.0},
        ],
        "losslessness": [{"right": True}],
        "serving": [
            {"method": method, "batch": batch, "output_throughput": 100.0, "failure": ""}
            for method in ("plain", "spin", "joint", "generate", "fixed", "assisted")
            for batch in (1, 8)
        ],
        "validation": [
            {"of": "profile", "metric": float("nan"), "error": float("nan")},
            *(
                {"of": "validation", "metric": metric, "error": -0.02}
                for metric in ("output_throughput", "median_tpot_ms", "p90_tpot_ms")
            ),
        ],
    }
    parts = [Part(name, pd.DataFrame(tables[name]), None, 1.0) for name in PARTS]
    met = verdicts(parts, on_gpu=True)
    assert {one.verdict for one in met if one.figure.bar} == {"met"}
    assert {one.verdict for one in met if not one.figure.bar} == {"no bar"}
    assert {one.figure.what: one.value for one in met}["padded attention over decomposed, time"] == 3.0
    cut = [replace(part, reason="its time is over") for part in parts]
    assert (
        in_one_line(verdicts(cut, on_gpu=True)) == "Bars met: 12 of 12, 12 of them so far. Missed: 0. Not measured: 0."
    )

    worse = {
        "times_the_limit": 1.2, "host_share": 0.06, "device_us_per_token": 151.0, "in_a_draft": 1,
        "in_a_verification": 2, "right": False, "share_of_copy": 0.69, "error": 0.06,
    }  # fmt: skip
    for part in parts:
        assert part.table is not None
        for column in worse.keys() & set(part.table):
            part.table[column] = worse[column]
        if part.name == "steps":
            part.table["device_ms"] = [2.0, 2.3]
    assert {one.verdict for one in verdicts(parts, on_gpu=True) if one.figure.bar} == {"missed"}


def test_without_a_gpu_only_the_miniature_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "torch finds no CUDA GPU here; --miniature" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--miniature", "--parts", "kernel"])
    assert "--parts has 'kernel'; parts are steps, drafts" in capsys.readouterr().err


def test_what_was_measured_is_there_however_a_part_ends(tmp_path: Path) -> None:
    def rows(end: BaseException | None) -> Callable[[Allowance], Iterator[Row]]:
        def some(allowance: Allowance) -> Iterator[Row]:
            yield {"batch": 1}
            assert pd.read_csv(tmp_path / "part.csv")["batch"].tolist() == [1]  # before the second is measured
            yield {"batch": 2}
            if end is not None:
                raise end

        return some

    def part(end: BaseException | None, seconds: float = 60.0) -> tuple[int, str | None, bool]:
        found = measured("part", rows(end), Allowance(seconds), tmp_path / "part.csv")
        assert found.table is not None
        assert pd.read_csv(tmp_path / "part.csv")["batch"].tolist() == found.table["batch"].tolist()
        return len(found.table), found.reason, found.is_broken

    assert part(None) == (2, None, False)
    assert part(NotMeasured("no model")) == (2, "no model", False)
    assert part(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has 1 GiB. More")) == (
        2, "part: out of memory (CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has 1 GiB); nothing smaller is tried",
        False,
    )  # fmt: skip
    assert part(RuntimeError("CUDA error: an illegal memory access\nmore")) == (
        2, "RuntimeError: CUDA error: an illegal memory access", True
    )  # fmt: skip
    count, reason, is_broken = part(None, 0.0)
    assert (count, is_broken) == (1, False)
    assert reason is not None
    assert reason.startswith("its time is over")
    with pytest.raises(KeyboardInterrupt):
        part(KeyboardInterrupt())


def test_the_page_is_there_before_the_last_part(tmp_path: Path) -> None:
    meta = {
        "created": "now", "git_commit": "abc", "copy_bytes_per_s": 4e12, "matrix_flops_per_s": 8e14,
        "hardware": {"gpu": "H200", "cpu": "x"}, "miniature": False, "sizes": "target llama-7b-shape",
    }  # fmt: skip
    table = pd.DataFrame(
        [{"batch": 1, "rows_per_request": 1, "device_ms": 3.0, "times_the_limit": 1.0, "host_share": 0}]
    )
    rest = [Part(name, None, "not reached", 0.0) for name in PARTS if name not in ("steps", "drafts")]
    rest.append(Part("drafts", None, "RuntimeError: no graph", 1.0, is_broken=True))
    write_summary(tmp_path / "page.md", meta, [Part("steps", table, "its time is over", 60.0), *rest])
    page = (tmp_path / "page.md").read_text()
    assert "60 s. *Not all of it*: its time is over." in page
    assert page.count("*Not measured*: not reached.") == len(PARTS) - 2
    assert "plain step at batch 1, times the memory's limit | 1 | <= 1.15 | met so far: its time is over |" in page
    assert "draft step of the small shape in a graph, us | - | <= 150 | not measured: RuntimeError: no graph |" in page
    assert "- **drafts broke**: RuntimeError: no graph" in page
    assert set(TO_SHOW) == set(PARTS) == {figure.part for figure in FIGURES}


def test_sizes_are_taken_from_free_memory() -> None:
    assert largest_target(140 << 30).name == "llama-7b-shape"
    assert largest_target(24 << 30).name == "llama-1.4b-shape"
    assert largest_target(1 << 30).name == "llama-265m-shape"


def test_methods_that_are_served_can_be_served() -> None:
    """All of them compose and go together, found before a GPU is there to serve them."""
    replay, common = Replay(), ["models=inflated_7b", "arrivals=all_at_once"]
    composed = compose_points("replay", [[*common, *overrides] for overrides in serving.methods().values()])
    checked: list[ReplayConfig] = []

    def check(point: Point) -> None:
        checked.append(parse_config(point.config, ReplayConfig))
        replay.check_config(checked[-1])

    check_each([points[0] for points in composed], check)
    assert {config.scheduler.max_num_seqs for config in checked} == set(serving.NUM_PROMPTS)
    names = list(serving.methods())
    # what a throughput is compared with comes before it
    for batch in serving.NUM_PROMPTS:
        own = [name for name in names if name.endswith(f"batch {batch}")]
        assert own[0] == f"{serving.PLAIN} at batch {batch}"


class Ended:
    """A process that is over."""

    def __init__(self, code: int) -> None:
        self.code, self.killed = code, 0

    def poll(self) -> int:
        return self.code

    def kill(self) -> None:
        self.killed += 1

    def wait(self) -> None:
        pass


def test_replays_are_seen_as_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Ended(1)
    started: list[list[str]] = []
    monkeypatch.setattr(turns.subprocess, "Popen", lambda command, **rest: (started.append(command), process)[1])
    methods = {"plain at batch 8": ["selector=plain"], "fixed": ["selector=fixed"], "joint": []}
    runs = Turns(tmp_path / "runs", ["models=inflated_7b"], methods)
    (tmp_path / "runs.log").write_text("loading\nkilled\n")
    assert started[0][-2:] == ["--method", "joint: "]
    store = SweepFolder(tmp_path / "runs")
    folders = ["0 plain at batch 8-0123456789ab", "0 fixed-ba9876543210"]
    store.add([SweepPoint(folder, folder, {"seed": place}, {}, ()) for place, folder in enumerate(folders)])
    for folder, name, content in zip(
        folders, (POINT_FILE, FAILURE_FILE), ({}, {"type": "UserError", "message": "no room"}), strict=True
    ):
        (store.path / folder).mkdir()
        write_json(store.path / folder / name, content)
    found: list[Replayed] = []
    with pytest.raises(NotMeasured, match="2 of 3 runs, then: killed"):
        found.extend(iter_into(found, runs.replayed(Allowance(60.0))))
    assert [(run.method, run.failure) for run in found] == [
        ("plain at batch 8", None), ("fixed", "UserError: no room")
    ]  # fmt: skip
    assert process.killed == 1
    process.code = None  # type: ignore[assignment]
    with pytest.raises(NotMeasured, match="2 of 3 runs were done when time was over"):
        list(runs.replayed(Allowance(0.0)))


def iter_into(found: list[Replayed], runs: Iterator[Replayed]) -> Iterator[Replayed]:
    """Kept one by one, so that what came before an error is there."""
    for run in runs:
        found.append(run)
    return iter(())


def test_kernels_report_from_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, sizes, told = Scene.miniature(), (4, 2, 20), queue.Queue()
    errors = iter([0.0, RuntimeError("illegal memory access\nmore")])

    def error(*rest: object) -> float:
        one = next(errors)
        if isinstance(one, Exception):
            raise one
        return one

    monkeypatch.setattr(kernel_checks, "_error", error)
    kernel_checks._report(scene, sizes, (torch.float32,), told)
    rows = [told.get() for _ in range(told.qsize())]
    assert rows[-1] is None
    assert [(row["right"], row["problem"]) for row in rows[:-1]] == [
        (True, ""), (False, "RuntimeError: illegal memory access")
    ]  # fmt: skip


def test_where_answers_part_the_target_is_asked(tmp_path: Path) -> None:
    scene = Scene.miniature()
    assert losslessness.largest_gap(scene, "llama-68m-shape", torch.float32, []) == 0.0
    prompts = losslessness.write_trace(tmp_path / "trace.jsonl", 2, 3)
    gap = losslessness.largest_gap(scene, "llama-68m-shape", torch.float32, [(prompts["r0"], 1, 2)])
    assert gap > 0
    assert gap == losslessness.largest_gap(scene, "llama-68m-shape", torch.float32, [(prompts["r0"], 2, 1)])


@pytest.mark.parametrize(
    "kernel",
    [
        "store_kv,bf16,128",
        pytest.param("merge,bf16,128", marks=pytest.mark.full_matrix),
        *(pytest.param(f"attend,{dtype},64", marks=pytest.mark.full_matrix) for dtype in ("fp16", "bf16", "fp32")),
    ],
)
def test_kernels_compile_for_gpus_that_are_not_here(tmp_path: Path, kernel: str) -> None:
    out = tmp_path / "kernels.csv"
    compiling = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.gpu.compile_kernels", "--out", str(out), "--only", kernel]
    done = subprocess.run(command, env=compiling, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    usage = pd.read_csv(out)
    assert set(usage["target"]) == {"sm_80", "sm_90"}
    assert (usage["stack_bytes"] == 0).all()
    assert (usage["registers"] > 8).all()


@pytest.mark.full_matrix
def test_runs_through_the_command_line_in_miniature(tmp_path: Path) -> None:
    assert main(["--miniature", "--out", str(tmp_path), "--parts", "losslessness,serving,validation"]) == 0
    lossless = pd.read_csv(tmp_path / "losslessness.csv")
    assert (lossless["equal"] == lossless["answers"]).all()
