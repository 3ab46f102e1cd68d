"""What a worker does: takes points of a command that nobody is at, one after another, until none is left.

Workers need not know of each other. Who holds a point's lock does it; the lock is freed when its holder dies, so a
point is neither lost nor done twice, however often it is handed out.
"""

import os
import re
import shutil
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import Timeout

from spinbench.errors import UserError
from spinbench.json_file import read_json, write_json
from spinbench.sweep.folder import FAILURE_FILE, POINT_FILE, Session, SweepFolder
from spinbench.sweep.point import SweepPoint
from spinbench.whole_file import is_unfinished

ATTEMPT_FILE = "attempt.json"
"""There while a point is worked at; left by whoever dies at it."""
WAIT_S = 0.2
"""Between two looks at points that others are at."""

RunPoint = Callable[[SweepPoint, Path], dict[str, Any]]
"""Does a point: leaves its run in the folder and gives its metrics. Raises UserError."""


def work(
    folder: SweepFolder,
    session: Session,
    run_point: RunPoint,
    first: int = 0,
    waits: bool = True,
    is_over: Callable[[], bool] = lambda: False,
    after_point: Callable[[], None] = lambda: None,
) -> None:
    """Do the session's points, beginning with number `first` and coming round to it.

    Points that others are at are waited for, in case those die, or left if not `waits`. Ends early, between two points,
    when `is_over`.
    """
    points = folder.points()
    order = [points[key] for key in (*session.keys[first:], *session.keys[:first]) if key in points]
    while order:
        busy = []
        for point in order:
            if is_over():
                return
            if not do_point(folder, session, point, run_point):
                busy.append(point)
            after_point()
        if not waits:
            return
        if len(busy) == len(order):
            time.sleep(WAIT_S)
        order = busy


def do_point(folder: SweepFolder, session: Session, point: SweepPoint, run_point: RunPoint) -> bool:
    """Do the point unless it is done or has failed. False if somebody else is at it."""
    if folder.is_done(point) or folder.is_failed(point):
        return True
    try:
        with folder.lock(point):
            if not (folder.is_done(point) or folder.is_failed(point)):
                _attempt(folder.folder_of(point), session, point, run_point)
    except Timeout:
        return False
    return True


def forget_failure(folder: SweepFolder, point: SweepPoint) -> None:
    """Let a failed point be tried again."""
    path = folder.folder_of(point)
    # what is in the folder must still be known as an attempt's
    os.replace(path / FAILURE_FILE, path / ATTEMPT_FILE)


def _attempt(path: Path, session: Session, point: SweepPoint, run_point: RunPoint) -> None:
    before = _attempts_before(path, session)
    if before >= session.max_attempts:
        message = f"{before} workers died at it, killed from outside, perhaps for want of memory"
        _write_failure(path, point, "WorkerDied", message, before)
        return
    _clear(path)
    write_json(path / ATTEMPT_FILE, {"session": session.name, "number": before + 1})
    try:
        metrics = run_point(point, path)
    except UserError as error:
        _write_failure(path, point, "UserError", " ".join(str(error).split()), before + 1)
    except Exception as error:  # a defect of ours, or no memory: written down and counted, and the others go on
        text = " ".join(str(error).split())
        _write_failure(path, point, type(error).__name__, text, before + 1, traceback.format_exc())
    else:
        row = {"key": point.key, "config": point.config, "choices": point.choices, "metrics": metrics}
        write_json(path / POINT_FILE, row, indent=None)
        (path / ATTEMPT_FILE).unlink(missing_ok=True)


def _attempts_before(path: Path, session: Session) -> int:
    """Workers that died at the point in this session; an earlier one may have been ended on purpose."""
    left = path / ATTEMPT_FILE
    attempt = read_json(left) if left.is_file() else {}
    return int(attempt["number"]) if attempt.get("session") == session.name else 0


def _clear(path: Path) -> None:
    """Make the folder, without what an earlier attempt left. Raises UserError if it holds something else."""
    marks = (ATTEMPT_FILE, FAILURE_FILE)
    try:
        path.mkdir(parents=True, exist_ok=True)
        left = sorted(path.iterdir(), key=lambda one: one.name in marks)  # the marks last: this may be cut short too
        if left and left[-1].name not in marks and not all(map(is_unfinished, left)):
            raise UserError(
                f"{path}: holds {left[0].name}, which is not of this sweep; set hydra.sweep.dir to another folder"
            )
        for one in left:
            shutil.rmtree(one) if one.is_dir() else one.unlink()
    except OSError as error:
        raise UserError(f"{path}: cannot be made: {error.strerror or error}") from error


def _write_failure(path: Path, point: SweepPoint, kind: str, message: str, attempts: int, trace: str = "") -> None:
    content = {
        "key": point.key,
        "type": kind,
        "message": message,
        "about": _about(message),
        "attempts": attempts,
        "overrides": list(point.overrides),
        "config": point.config,
        "choices": point.choices,
        "traceback": trace or None,
    }
    write_json(path / FAILURE_FILE, content)
    (path / ATTEMPT_FILE).unlink(missing_ok=True)


def _about(message: str) -> str | None:
    """The config key or file that a message begins with; None when it begins with neither."""
    found = re.match(r"([\w./~-]*[\w-][./][\w./-]*\w|\w+(?==))", message)
    return found[1] if found else None
