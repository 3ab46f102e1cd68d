"""Many replicas in one simulation: serving loops on one clock, behind a router."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from simpy import Environment

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.body import Body, JobDone
from spinbench.control.jobs.job import Job
from spinbench.control.loop import ServingLoop
from spinbench.control.loop_setting import LoopSetting, Progress
from spinbench.control.records.run_record import RunRecord
from spinbench.control.request_table import RequestTable
from spinbench.control.router.dispatcher import Dispatcher
from spinbench.control.router.inbox import Inbox
from spinbench.control.router.joined_record import join_records
from spinbench.control.router.progress import JoinedProgress
from spinbench.control.router.protocol import Router
from spinbench.control.router.replica import Replica
from spinbench.simulation.answers import Answers
from spinbench.simulation.body import JobTimes, SimulatedBody
from spinbench.simulation.session import check_acceptance
from spinbench.simulation.text import RecordedText
from spinbench.workload.acceptance.streams import AcceptanceStreams
from spinbench.workload.arrivals import ArrivalQueue


class ReplicaClock:
    """Lets time pass for the bodies of all replicas. A `Body` itself for whoever only waits for what ends."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._ended: deque[int] = deque()
        """Replicas whose bodies have an ended job that nobody has taken yet."""
        self.bodies: list[SimulatedBody] = []
        self.last = -1
        """The replica whose job `next_event` gave."""

    def note_end(self, replica: int) -> None:
        """A job of the replica's body ended."""
        self._ended.append(replica)

    def now(self) -> float:
        """Simulated seconds since the start: that of the host that is busy longest."""
        return max(body.now() for body in self.bodies)

    def submit(self, job: Job) -> None:
        """Jobs are for the replicas' own bodies."""
        raise RuntimeError("a job was given to the clock of all replicas")

    def release(self, rows: IntArray) -> None:
        """Nothing is held."""

    def forget(self, rows: IntArray) -> None:
        """Nothing is drafted here."""

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """Let time pass to the next end of a job on any replica, or to the deadline; `last` says whose job it was."""
        for body in self.bodies:
            body.begin_queued()
        while not self._ended:
            next_s = self._environment.peek()
            # a job that ends at the deadline comes first
            if deadline_s is not None and next_s > deadline_s:
                if deadline_s > self._environment.now:
                    self._environment.run(until=deadline_s)
                return None
            if next_s == float("inf"):
                raise RuntimeError("no job in flight and nothing to wait for")
            self._environment.step()
        self.last = self._ended.popleft()
        return self.bodies[self.last].take_ended()


class ReplicatedLoop:
    """Serves a queue of arrivals on many replicas and records what happened."""

    def __init__(self, replicas: Sequence[Replica], dispatcher: Dispatcher, clock: ReplicaClock, waits: Body) -> None:
        """`waits` is the clock, or what stands in front of it, and is asked for every event."""
        self._replicas = replicas
        self._dispatcher = dispatcher
        self._clock = clock
        self._waits = waits
        self._looks = {index: replica.snapshot for index, replica in enumerate(replicas)}

    def run(self) -> RunRecord:
        """Serve until every request is finished. Ctrl-C ends the run early with an incomplete record."""
        try:
            self._serve()
            end_s = self._waits.now()
            while any(replica.loop.has_jobs_ahead for replica in self._replicas):
                self._next_event(None)
        except KeyboardInterrupt:
            end_s = self._waits.now()
            return self._join([replica.loop.abort(end_s) for replica in self._replicas], end_s)
        return self._join([replica.loop.finish(end_s) for replica in self._replicas], end_s)

    def _join(self, records: Sequence[RunRecord], end_s: float) -> RunRecord:
        return join_records(dict(enumerate(records)), len(records), end_s)

    def _serve(self) -> None:
        time_s = 0.0
        ended: int | None = None
        """The replica whose job ended last; its loop has not gone on yet."""
        while True:
            outstanding = sum(replica.num_outstanding for replica in self._replicas)
            if not (self._dispatcher or outstanding):
                return
            reached = set() if ended is None else {ended}
            # of jobs that end at the same time on several replicas the router knows of the first ones only
            for routed in self._dispatcher.take_due(time_s, outstanding, self._looks):
                self._replicas[routed.replica].inbox.put(routed.request, routed.arrival_s)
                if self._clock.bodies[routed.replica].hears_arrivals:
                    reached.add(routed.replica)
            for index in sorted(reached):
                loop = self._replicas[index].loop
                loop.take(None, time_s)
                loop.advance()
            outstanding = sum(replica.num_outstanding for replica in self._replicas)
            deadline_s = self._dispatcher.next_due_s(outstanding)
            ended, end_s = self._next_event(deadline_s)
            time_s = end_s if end_s is not None else time_s if deadline_s is None else deadline_s

    def _next_event(self, deadline_s: float | None) -> tuple[int | None, float | None]:
        """Take in the next end of a job: whose, and when. None twice at the deadline."""
        done = self._waits.next_event(deadline_s)
        if done is None:
            return None, None
        self._replicas[self._clock.last].take(done)
        return self._clock.last, done.end_s


def simulated_replicas(
    settings: Sequence[LoopSetting],
    router: Router,
    queue: ArrivalQueue,
    streams: AcceptanceStreams,
    num_prompt_tokens: Mapping[str, int],
    times: JobTimes,
    on_progress: Callable[[Progress], None] | None = None,
    interface: Callable[[Body], Body] | None = None,
    drafts_end_early: bool = True,
) -> ReplicatedLoop:
    """A loop that serves `queue` in simulated time on a replica for each of `settings`, else as `simulated_loop`.

    Each replica decides by a setting of its own, and has lanes and a host of its own.
    """
    environment = Environment()
    clock = ReplicaClock(environment)
    # one table for all: a request is at one replica, so no two ever touch the same row
    table = RequestTable(queue.requests, num_prompt_tokens, len(settings[0].drafters))
    progress = JoinedProgress(len(settings), on_progress)
    replicas = []
    for index, setting in enumerate(settings):
        check_acceptance(setting, streams)
        answers = Answers(streams, table.num_prompt_tokens, setting.drafters, drafts_end_early)
        body = SimulatedBody(
            answers, setting.drafters, times, 0.0, setting.placement, None, environment, partial(clock.note_end, index)
        )
        clock.bodies.append(body)
        inbox = Inbox()
        loop = ServingLoop(setting, body, inbox, table, RecordedText(streams), progress.of(index))
        replicas.append(Replica(loop, inbox))
    dispatcher = Dispatcher(queue, router, num_prompt_tokens, settings[0].max_num_seqs)
    return ReplicatedLoop(replicas, dispatcher, clock, interface(clock) if interface else clock)
