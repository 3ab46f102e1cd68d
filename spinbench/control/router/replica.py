"""A serving loop behind a router."""

import numpy as np

from spinbench.control.jobs.body import JobDone
from spinbench.control.loop import ServingLoop
from spinbench.control.request_table import IN_PREFILL
from spinbench.control.router.inbox import Inbox
from spinbench.control.router.load import ReplicaSnapshot
from spinbench.control.router.pace import PaceMeter


class Replica:
    """A loop, its inbox, and what is learned of its pace."""

    def __init__(self, loop: ServingLoop, inbox: Inbox) -> None:
        self.loop = loop
        self.inbox = inbox
        self._meter = PaceMeter(len(loop.table))

    @property
    def num_outstanding(self) -> int:
        """Requests that were routed here and are not finished."""
        return len(self.inbox) + self.loop.scheduler.num_outstanding

    def take(self, done: JobDone) -> None:
        """A job of the loop ended."""
        self.observe(done)
        self.loop.take(done, None)

    def observe(self, done: JobDone) -> None:
        """A job of the loop ended, which the loop knows already."""
        self._meter.observe(done)

    def snapshot(self) -> ReplicaSnapshot:
        """Its requests now."""
        return self.snapshot_of_loop().with_waiting(self.inbox.requests, self.loop.table)

    def snapshot_of_loop(self) -> ReplicaSnapshot:
        """As `snapshot`, without what the loop has not taken in yet."""
        table, scheduler = self.loop.table, self.loop.scheduler
        running, waiting = np.array(scheduler.running, np.int64), np.array(scheduler.waiting, np.int64)
        prompts = np.where(table.in_round[running] == IN_PREFILL, table.num_tokens[running], 0)
        return ReplicaSnapshot(
            running_prompt_tokens=prompts,
            running_answer_tokens=table.remaining_tokens(running),
            waiting_prompt_tokens=table.num_tokens[waiting],
            waiting_answer_tokens=table.remaining_tokens(waiting),
            pace=self._meter.pace,
        )
