"""What all drafters are asked before requests start a round, where the selector learns from all of them."""

from spinbench.control.arrays import IntArray
from spinbench.control.full_information import FullInformation
from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.job import CatchUpJob
from spinbench.control.jobs.result import DidNotFit, ScoreResult
from spinbench.control.round_closer import RoundCloser


class DrafterPoll:
    """Asks the drafters about the newest tokens; nothing starts before the last of them has answered."""

    def __init__(self, full: FullInformation, body: Body, closer: RoundCloser) -> None:
        self._full = full
        self._body = body
        self._closer = closer
        self.num_open = 0
        """Drafters that have not answered yet."""

    def ask(self, rows: IntArray) -> bool:
        """Ask about these requests; whether there was anything to ask."""
        jobs = self._full.jobs(rows)
        self.num_open = len(jobs)
        for job in jobs:
            self._body.submit(job)
        return bool(jobs)

    def answered(self, done: JobDone, job: CatchUpJob, result: ScoreResult | DidNotFit) -> None:
        """Take an answer in. If one of them did not fit, all are asked again, about fewer requests."""
        self.num_open -= 1
        unfit = self._full.scored(job, result)
        if unfit is not None and not self.num_open:
            self._closer.back_off(unfit, self._full.asked_rows, done.end_s, has_company=False)
