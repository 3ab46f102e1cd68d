"""A replica on real models: its serving loop runs in one thread, and others give it requests and ask how far it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spinbench.control.jobs.body import JobDone, KnownTimes
from spinbench.control.jobs.wrapped_body import WrappedBody
from spinbench.control.loop_setting import LoopSetting, Progress
from spinbench.control.records.run_record import RunRecord
from spinbench.control.router.load import ReplicaSnapshot
from spinbench.control.router.replica import Replica
from spinbench.runtime.body import TorchBody
from spinbench.runtime.replicas.inbox import LiveInbox
from spinbench.runtime.session import live_loop_of
from spinbench.workload.request import Request


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """How far a replica is."""

    progress: Progress
    snapshot: ReplicaSnapshot


class _CommonClock(WrappedBody[TorchBody]):
    """A body whose clock reads that of all replicas, and that tells another what it sees pass by."""

    def __init__(self, body: TorchBody, zero_s: float, owner: "LiveReplica") -> None:
        """`zero_s`: what this process's `time.perf_counter` reads when the common clock reads 0."""
        super().__init__(body)
        self._zero_s = zero_s
        self._owner = owner

    @property
    def _ahead_s(self) -> float:
        return self._body.start_s - self._zero_s

    def now(self) -> float:
        return super().now() + self._ahead_s

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        self._owner.look()
        done = super().next_event(None if deadline_s is None else deadline_s - self._ahead_s)
        if done is None:
            return None
        done = done._replace(times=KnownTimes(done.start_s + self._ahead_s, done.end_s + self._ahead_s))
        self._owner.saw(done)
        return done


class LiveReplica:
    """Serves what comes into its inbox. `serve` is for one thread, everything else for another."""

    def __init__(
        self,
        setting: LoopSetting,
        body: TorchBody,
        requests: Sequence[Request],
        prompts: Mapping[str, tuple[int, ...]],
        zero_s: float,
    ) -> None:
        """`requests` are those of the whole run, in the order of arrival, of which some will come here; `prompts` has
        their token ids by id; the common clock reads 0 where this process's `time.perf_counter` reads `zero_s`."""
        clock = _CommonClock(body, zero_s, self)
        self._inbox = LiveInbox(clock.now)
        self._is_stopped = False
        self._progress = Progress(0, 0)
        loop = live_loop_of(requests, setting, body, self._inbox, prompts, self._note, clock)
        self._replica = Replica(loop, self._inbox)
        self._table = loop.table
        self._snapshot = self._replica.snapshot_of_loop()

    def serve(self) -> RunRecord:
        """Serve until the inbox is closed and everything in it is finished, or until told to stop."""
        return self._replica.loop.run()

    def put(self, requests: Sequence[tuple[Request, float]]) -> None:
        """Requests with the times at which they arrived, in seconds of the common clock."""
        for request, arrival_s in requests:
            self._inbox.put(request, arrival_s)

    def close(self) -> None:
        """No further request will come."""
        self._inbox.close()

    def stop(self) -> None:
        """End the run after the job that is under way, unfinished requests marked aborted."""
        self._is_stopped = True
        self._inbox.close()

    def report(self) -> ReplicaReport:
        """How far it was when its loop last waited for a job, and what has come in since."""
        return ReplicaReport(self._progress, self._snapshot.with_waiting(self._inbox.held(), self._table))

    def look(self) -> None:
        """The loop is about to wait: keep how it stands. Raises KeyboardInterrupt if it was told to stop."""
        if self._is_stopped:
            raise KeyboardInterrupt
        self._snapshot = self._replica.snapshot_of_loop()

    def saw(self, done: JobDone) -> None:
        """A job ended."""
        self._replica.observe(done)

    def _note(self, progress: Progress) -> None:
        self._progress = progress
