"""Real runs of a validation, with the machine's pace checked before and after each."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from spinbench.calibration.measuring.bench import Bench
from spinbench.calibration.measuring.pace_check import PaceCheck, read_pace, write_pace
from spinbench.cli.interrupt import Interrupted
from spinbench.cli.progress import show_stage
from spinbench.metrics.store import SUMMARY_FILE, Run
from spinbench.metrics.validation import JobsCompared

FILE = "pace-{}.csv"

PacedRun = tuple[Run, list[JobsCompared]]
"""A run and the checks around it; none where it was there from before checks were made."""


class PacedRuns:
    """Makes runs, one behind the other. What was checked after a run serves as the check before the next one, too."""

    def __init__(
        self, check: PaceCheck, seconds: float, make_bench: Callable[[], AbstractContextManager[Bench]]
    ) -> None:
        """`seconds` of each check; 0 = none is made. `make_bench` is on the models of the runs."""
        self._check = check
        self._seconds = seconds
        self._make_bench = make_bench
        self._latest: JobsCompared | None = None

    def run(self, folder: Path, make_run: Callable[[], Run]) -> PacedRun:
        """The run in `folder`, which `make_run` makes or finds there."""
        path = folder.with_name(FILE.format(folder.name))
        if (folder / SUMMARY_FILE).is_file() or not self._seconds:
            run, kept = make_run(), read_pace(path)
            return run, [] if kept is None else [kept]
        before = self._latest or self._checked()
        run = make_run()
        self._latest = self._checked()
        both = before.followed_by(self._latest)
        write_pace(path, both)
        return run, [both]

    def _checked(self) -> JobsCompared:
        try:
            # made anew: while a run is under way its memory is the run's
            with show_stage("checking the machine's pace"), self._make_bench() as bench:
                return self._check.run(bench, self._seconds)
        except KeyboardInterrupt as error:
            raise Interrupted("finished runs are kept; the same command goes on") from error
