"""Ctrl-C: in processes of their own, since a signal goes to a process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from spinbench.cli.engine import model_shelf
from spinbench.cli.interrupt import InterruptibleBody
from spinbench.cli.main import main
from spinbench.control.jobs.body import JobDone
from spinbench.control.jobs.job import Job
from spinbench.control.records.recorder import Recorder
from spinbench.metrics.store import read_run
from tests.cli.conftest import CommandLine, TinyModels, tiny_overrides, trace_lines, write_trace
from tests.forked import DEADLINE_S, Forked

ROOT = str(Path(__file__).parents[2])


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "spinbench", *arguments], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def replay_watched(arguments: list[str]) -> int:
    """The command, telling when it is in the middle of its work."""
    add_request = Recorder.add_request

    def watched(self: Any, row: int, finish_s: float | None, reason: Any) -> None:
        add_request(self, row, finish_s, reason)
        # the warm-up's request of this name is shorter
        if self._requests[-1].request_id == "r0" and finish_s is not None and self._requests[-1].output_tokens == 12:
            print("first request finished", flush=True)

    Recorder.add_request = watched  # type: ignore[method-assign]
    return main(arguments)


class Started:
    """`replay_watched` in a process that is started anew, which imports everything again; else as `Forked`."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        program = (
            "import sys; from tests.cli.test_interrupt import replay_watched as main; sys.exit(main(sys.argv[1:]))"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], cwd=folder, text=True, env=os.environ | {"PYTHONPATH": ROOT},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.stdout = self._process.stdout
        self.send_signal = self._process.send_signal

    def end(self) -> tuple[int, str, str]:
        out, err = self._process.communicate(timeout=DEADLINE_S)
        return self._process.returncode, out, err


@pytest.mark.parametrize("anew", [False, pytest.param(True, marks=pytest.mark.full_matrix)], ids=["forked", "anew"])
def test_ctrl_c_in_mid_run_leaves_what_is_finished(tmp_path: Path, tiny: TinyModels, anew: bool) -> None:
    lines = trace_lines(3)
    lines[1]["arrival_s"] = 3600.0  # so that the run is surely not over
    lines[2]["arrival_s"] = 3600.0
    write_trace(tmp_path, lines)
    command = ["replay", *tiny_overrides(tiny, tmp_path), "arrivals=trace", "selector=plain"]
    process = Started(command, tmp_path) if anew else Forked(lambda: replay_watched(command), tmp_path)
    while "first request finished" not in (line := process.stdout.readline()):
        assert line, f"it ended before its first request: {process.end()}"
    process.send_signal(signal.SIGINT)
    code, _, err = process.end()
    assert code == 2
    assert err.splitlines() == ["interrupted: 1 of 3 requests were finished; their results, marked partial, are in run"]
    run = read_run(tmp_path / "run")
    assert not run.complete
    assert list(run.requests["request_id"]) == ["r0"]
    assert run.summary["completed"] == 1


@pytest.mark.parametrize("several", [False, True], ids=["run", "sweep"])
def test_ctrl_c_while_loading_leaves_nothing(tmp_path: Path, tiny: TinyModels, several: bool) -> None:
    mode = ["-m", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}", "seed=0,1"] if several else []
    command = ["replay", *mode, *tiny_overrides(tiny, tmp_path)]

    def load(*_: object) -> None:
        print("loading", flush=True)
        time.sleep(DEADLINE_S)

    def replay() -> int:
        model_shelf.load_target = load  # type: ignore[assignment]
        return main(command)

    process = Forked(replay, tmp_path)
    while "loading" not in (line := process.stdout.readline()):
        assert line, f"it ended before it loaded anything: {process.end()}"
    process.send_signal(signal.SIGINT)
    code, _, err = process.end()
    assert code == 2
    said = "0 of 2 points are done; the same command goes on with the rest" if several else None
    assert err.splitlines() == [f"interrupted: {said or 'no request was finished; nothing was written'}"]
    assert not list(tmp_path.rglob("summary.json"))
    left = {path.name for path in tmp_path.iterdir()} - {"tiny.jsonl"}
    assert left == ({"sweep"} if several else set())


def test_a_true_process_says_a_mistake_in_one_line(tmp_path: Path, tiny: TinyModels) -> None:
    process = start(tmp_path, "replay", *tiny_overrides(tiny, tmp_path), "selector=best")
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("error: selector=best")


class FakeBody:
    """Counts events; Ctrl-C comes at the second."""

    def __init__(self) -> None:
        self.events = 0

    def now(self) -> float:
        return float(self.events)

    def submit(self, job: Job) -> None:
        raise AssertionError(job)

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        self.events += 1
        if self.events == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return None


def test_an_interrupt_inside_an_event_is_raised_there() -> None:
    body = InterruptibleBody(FakeBody())
    before = signal.getsignal(signal.SIGINT)
    with body.listening():
        assert body.next_event(None) is None
        with pytest.raises(KeyboardInterrupt):
            body.next_event(None)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_between_events_waits_for_the_next() -> None:
    body = InterruptibleBody(FakeBody())
    with body.listening():
        body.next_event(None)
        os.kill(os.getpid(), signal.SIGINT)
        assert body.now() == 1.0
        with pytest.raises(KeyboardInterrupt):
            body.next_event(None)
    assert body.now() == 1.0


def test_an_interrupt_outside_a_run_is_one_line_too(spinbench: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("spinbench.cli.apps.replay.main", interrupted)
    outcome = spinbench("replay")
    assert (outcome.code, outcome.err) == (2, "interrupted: nothing was written\n")
