"""A worker in a job: its exit code, and its end when a file says so."""

import sys
import threading
import time
from pathlib import Path

from spinbench.sweep.launcher.job_process import run_worker


def code(program: str, stop: Path, **environment: str) -> int:
    return run_worker([sys.executable, "-c", program], environment, str(stop))


def test_it_gives_the_exit_code_and_hands_on_its_environment(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OURS", "2")
    program = "import os, sys; sys.exit(int(os.environ['OURS'] + os.environ['THEIRS']))"
    assert code(program, tmp_path / "stop", THEIRS="3") == 23
    assert code("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", tmp_path / "stop") == -9


def test_it_ends_its_worker_when_it_is_told_to(tmp_path: Path) -> None:
    stop, begun = tmp_path / "stop", tmp_path / "begun"

    def tell() -> None:
        while not begun.exists():
            time.sleep(0.01)
        stop.touch()

    told = threading.Thread(target=tell)
    told.start()
    program = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(30); raise SystemExit(1)"
    start_s = time.monotonic()
    assert code(program, stop) == 0
    assert time.monotonic() - start_s < 20
    told.join()
    # and begins none after that
    assert code("raise SystemExit(1)", stop) == 0
