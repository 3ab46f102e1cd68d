"""One trace over many replicas on real models, wherever they run: the part in front of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.job import Job
from spinbench.control.loop_setting import Progress
from spinbench.control.records.run_record import RunRecord
from spinbench.control.router.dispatcher import Dispatcher, Routed
from spinbench.control.router.joined_record import join_records
from spinbench.control.router.load import ReplicaSnapshot
from spinbench.control.router.progress import JoinedProgress
from spinbench.errors import UserError
from spinbench.runtime.lanes.sleeping import sleep_until
from spinbench.runtime.replicas.replica import ReplicaReport
from spinbench.workload.request import Request

LOOK_S = 0.02
"""Between two looks at how far replicas are: under a concurrency cap a free place is seen that late at the most."""


class ReplicaLost(RuntimeError):
    """A replica is gone, and with it all that it recorded."""


class RemoteReplica(Protocol):
    """A `LiveReplica` as seen from where requests are routed. Every method raises ReplicaLost if it is gone."""

    def put(self, requests: Sequence[tuple[Request, float]]) -> None:
        """Send requests with their arrival times."""
        ...

    def ask(self) -> None:
        """Ask for a report, without waiting for it."""
        ...

    def report(self) -> ReplicaReport:
        """The report that was asked for. Raises whatever ended its loop."""
        ...

    def stop(self) -> None:
        """End the run early."""
        ...

    def record(self) -> RunRecord:
        """Close its inbox and wait for its record."""
        ...

    def drop(self) -> None:
        """It counts as lost: make sure that it is."""
        ...


class WallClock:
    """Waits. A `Body` for whoever only wants to know the time."""

    def __init__(self, lead_s: float = 0.0) -> None:
        """It will read 0 in `lead_s` seconds."""
        self._start_s = time.perf_counter() + lead_s

    @property
    def start_s(self) -> float:
        """When it read 0, by `time.perf_counter()`."""
        return self._start_s

    def now(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self._start_s

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """Nothing ever ends here: sleeps until the deadline."""
        if deadline_s is not None:
            sleep_until(deadline_s, self.now)
        return None

    def submit(self, job: Job) -> None:
        """Jobs are for replicas."""
        raise RuntimeError("a job was given to a clock")

    def release(self, rows: IntArray) -> None:
        """Nothing is held."""

    def forget(self, rows: IntArray) -> None:
        """Nothing is drafted here."""


class LiveReplicas:
    """Serves a queue of arrivals on replicas and records what happened.

    A replica that is lost takes its record with it. All its requests, finished or not, are routed anew and served from
    the beginning: texts do not depend on who serves, so no answer changes, and every request is in the record once.
    Their latencies count from their first arrival. Where none is left, or one is lost while
    records are fetched at the end, the run ends with an error.
    """

    def __init__(
        self,
        replicas: Sequence[RemoteReplica],
        dispatcher: Dispatcher,
        clock: Body,
        on_progress: Callable[[Progress], None] | None = None,
        lost: list[str] | None = None,
    ) -> None:
        """`clock` reads 0 at the start of the run, for replicas as well; `lost` takes a line for each that is lost."""
        self._replicas = dict(enumerate(replicas))
        self._num_replicas = len(replicas)
        self._dispatcher = dispatcher
        self._clock = clock
        self._sent: dict[int, list[tuple[Request, float]]] = {index: [] for index in self._replicas}
        self._reports: dict[int, ReplicaReport] = {}
        progress = JoinedProgress(len(replicas), on_progress)
        self._tell = {index: progress.of(index) for index in self._replicas}
        self._lost = [] if lost is None else lost

    def run(self) -> RunRecord:
        """Serve until every request is finished. Ctrl-C ends the run early with an incomplete record."""
        interrupted = False
        try:
            self._serve()
        except KeyboardInterrupt:
            interrupted = True
            for replica in self._replicas.values():
                replica.stop()
        records = {}
        for index, replica in self._replicas.items():
            try:
                records[index] = replica.record()
            except ReplicaLost as error:
                raise UserError(
                    f"replica {index} of {self._num_replicas} was lost while its record was fetched, and its "
                    f"{len(self._sent[index])} requests with it: {error}; give the command again"
                ) from error
        finishes_s = [request.finish_s for one in records.values() for request in one.requests if request.finish_s]
        end_s = self._clock.now() if interrupted else max(finishes_s, default=0.0)
        return replace(join_records(records, self._num_replicas, end_s), start_s=0.0)

    def _serve(self) -> None:
        self._look()
        while self._dispatcher or self._num_outstanding:
            now_s = self._clock.now()
            deadline_s = self._dispatcher.next_due_s(self._num_outstanding)
            if deadline_s is not None and deadline_s <= now_s:
                self._look()  # a router decides by how things are now
                self._send(self._dispatcher.take_due(now_s, self._num_outstanding, self._looks()))
                continue
            self._clock.next_event(now_s + LOOK_S if deadline_s is None else min(deadline_s, now_s + LOOK_S))
            self._look()

    @property
    def _num_outstanding(self) -> int:
        return sum(len(sent) - self._reports[index].progress.finished_requests for index, sent in self._sent.items())

    def _looks(self) -> dict[int, Callable[[], ReplicaSnapshot]]:
        return {index: partial(self._snapshot, index) for index in self._replicas}

    def _snapshot(self, index: int) -> ReplicaSnapshot:
        return self._reports[index].snapshot

    def _look(self) -> None:
        """Ask every replica how far it is, and route anew what was at one that is gone."""
        gone: dict[int, ReplicaLost] = {}
        for what in (self._ask, self._take_report):
            for index in list(self._replicas):
                if index not in gone:
                    try:
                        what(index)
                    except ReplicaLost as error:
                        gone[index] = error
        self._lose(gone)

    def _ask(self, index: int) -> None:
        self._replicas[index].ask()

    def _take_report(self, index: int) -> None:
        report = self._reports[index] = self._replicas[index].report()
        tell = self._tell[index]
        if tell:
            tell(report.progress)

    def _lose(self, gone: Mapping[int, ReplicaLost]) -> None:
        """These replicas are gone: route anew what was at them."""
        orphans: list[tuple[Request, float]] = []
        for index, error in gone.items():
            self._replicas.pop(index).drop()
            self._reports.pop(index, None)  # it may never have given one
            own = self._sent.pop(index)
            orphans.extend(own)
            self._lost.append(
                f"replica {index} was lost after {self._clock.now():.1f} s ({error}); its {len(own)} requests were "
                "served again by others, and their latencies count from their first arrival"
            )
            tell = self._tell[index]
            if tell:
                tell(Progress(0, 0))
            if not self._replicas:
                raise UserError(f"all {self._num_replicas} replicas were lost, the last one with: {error}")
        if orphans:
            orphans.sort(key=lambda pair: pair[1])
            self._send(self._dispatcher.route(orphans, self._looks()))

    def _send(self, routed: Sequence[Routed]) -> None:
        gone: dict[int, ReplicaLost] = {}
        for index, replica in self._replicas.items():
            own = [(one.request, one.arrival_s) for one in routed if one.replica == index]
            if own:
                self._sent[index].extend(own)
                try:
                    replica.put(own)
                except ReplicaLost as error:
                    gone[index] = error
        self._lose(gone)
