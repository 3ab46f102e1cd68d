"""What a router knows of a replica when a request arrives."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.request_table import RequestTable
from spinbench.control.router.pace import Pace
from spinbench.control.router.place_schedule import PlaceSchedule
from spinbench.workload.request import Request


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    """A replica's requests at a moment. Answers are counted as long as they may become."""

    running_prompt_tokens: IntArray
    """Of each request in the batch, tokens still to be prefilled. [running]"""
    running_answer_tokens: IntArray
    """Of each request in the batch, tokens still to be emitted. [running]"""
    waiting_prompt_tokens: IntArray
    """Of each request that waits, in the order in which they will be served. [waiting]"""
    waiting_answer_tokens: IntArray
    """[waiting]"""
    pace: Pace
    """Of late."""

    @property
    def outstanding_tokens(self) -> int:
        """Tokens still to be prefilled or emitted."""
        running = self.running_prompt_tokens.sum() + self.running_answer_tokens.sum()
        return int(running + self.waiting_prompt_tokens.sum() + self.waiting_answer_tokens.sum())

    def with_waiting(self, requests: Iterable[Request], table: RequestTable) -> "ReplicaSnapshot":
        """The same with requests that wait behind all others."""
        rows = np.array([table.row_of[request.id] for request in requests], np.int64)
        if not len(rows):
            return self
        return replace(
            self,
            waiting_prompt_tokens=np.concatenate((self.waiting_prompt_tokens, table.num_prompt_tokens[rows])),
            waiting_answer_tokens=np.concatenate((self.waiting_answer_tokens, table.max_new_tokens[rows])),
        )


class ReplicaLoad:
    """A replica's work: a snapshot, looked up when it is asked for, and what was routed to it since."""

    def __init__(self, index: int, num_places: int, read: Callable[[], ReplicaSnapshot]) -> None:
        """`num_places`: requests that it serves at a time."""
        self.index = index
        """The replica's number in the run."""
        self.num_places = num_places
        self._read = read
        self._added: list[tuple[int, int]] = []
        # kept up to date once asked for: at the start of a run everybody may come at once
        self._outstanding_tokens: int | None = None
        self._schedule: PlaceSchedule | None = None

    @cached_property
    def snapshot(self) -> ReplicaSnapshot:
        """Before anything was added."""
        return self._read()

    @property
    def outstanding_tokens(self) -> int:
        """Tokens still to be prefilled or emitted, if all answers become as long as they may."""
        if self._outstanding_tokens is None:
            self._outstanding_tokens = self.snapshot.outstanding_tokens + sum(map(sum, self._added))
        return self._outstanding_tokens

    def wait_s(self, pace: Pace) -> float:
        """Seconds until the prefill of a further request could begin, see `PlaceSchedule`; of one moment, one pace."""
        if self._schedule is None:
            self._schedule = PlaceSchedule(self.num_places, pace)
            snapshot = self.snapshot
            for prompts, answers in (
                (snapshot.running_prompt_tokens, snapshot.running_answer_tokens),
                (snapshot.waiting_prompt_tokens, snapshot.waiting_answer_tokens),
            ):
                for prompt, answer in zip(prompts.tolist(), answers.tolist(), strict=True):
                    self._schedule.add(prompt, answer)
            for prompt, answer in self._added:
                self._schedule.add(prompt, answer)
        return self._schedule.wait_s

    def add(self, prompt_tokens: int, answer_tokens: int) -> None:
        """A request is routed to this replica."""
        self._added.append((prompt_tokens, answer_tokens))
        if self._outstanding_tokens is not None:
            self._outstanding_tokens += prompt_tokens + answer_tokens
        if self._schedule is not None:
            self._schedule.add(prompt_tokens, answer_tokens)
