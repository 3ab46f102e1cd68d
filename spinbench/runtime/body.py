"""The runtime's body: runs jobs on real models, one after another or on lanes side by side, and reads a real clock."""

from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from spinbench.control.arrays import IntArray
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.body import JobDone, JobTimes, KnownTimes
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job
from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.control.jobs.result import DraftResult
from spinbench.control.placement import SHARED, Placement
from spinbench.control.text import LiveText
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.job_tasks import JobTasks, Task
from spinbench.runtime.job_work import JobWork, Outcome, make_work
from spinbench.runtime.kv.slot_table import SlotTable
from spinbench.runtime.lanes.device_clock import DeviceClock, clock_of
from spinbench.runtime.lanes.lane import Lanes, split_cores
from spinbench.runtime.lanes.sleeping import sleep_until
from spinbench.runtime.process_group import Ranks, on_device, require_same
from spinbench.runtime.sampling.sampler import Sampling
from spinbench.workload.acceptance.ngram_model import NgramModel


class TorchBody:
    """Runs jobs: where all models share one device in turn, on the thread that asks; else on a lane for each device.

    A span's lane is the model that worked. Slots, drafts and the loop's own state are touched by the loop's thread
    alone; a lane reads the text and slots of its job's requests, which nobody changes meanwhile, and writes into the KV
    pool of its own model. A catch-up or what drafts ahead may outlive its requests, and is given their slots as it is
    submitted.

    On the thread that asks, a job on a GPU is done for the loop once it is launched and its result is there: a draft is
    not waited for, its verification is, whose accepted counts the host must know. Times are read from the device's
    events when the loop asks for them.

    A job that a device has too little memory for ends with `DidNotFit`. Among ranks, each runs its part of the target's
    jobs, the first alone those of the drafters; results and times are the first's. There want of memory for a job that
    all take part in ends the run.
    """

    def __init__(
        self,
        work: JobWork,
        slots: SlotTable,
        placement: Placement = SHARED,
        drafter_threads: int = 1,
        clock: DeviceClock | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """With several lanes, each drafter's has `drafter_threads` CPU threads, and the target's the other ones."""
        self._work = work
        self._placement = placement
        self._drafter_threads = drafter_threads
        self._clock = clock or clock_of(work.device)
        self._ranks = ranks
        has_drafters = ranks is None or ranks.is_first
        self._tasks = JobTasks(work, slots, shares_target=ranks is not None, has_drafters=has_drafters)
        self._lanes: Lanes | None = None
        self._queue: deque[tuple[Job, Task]] = deque()

    def begin(self, text: LiveText, branch_tokens: int = 0) -> None:
        """Start a run on the requests of `text`, with an empty KV pool and the clock at zero.

        Branches of token trees may take `branch_tokens` slots beyond a request's longest text.
        """
        num_lanes = self._placement.num_devices(self._work.num_drafters)
        if self._lanes is not None:
            self._lanes.drain()
        elif num_lanes > 1:
            threads = split_cores(torch.get_num_threads(), num_lanes, self._drafter_threads)
            self._lanes = Lanes(threads, self._work.device)
        self._tasks.begin(text, branch_tokens)
        self._queue.clear()
        self._clock.restart()

    def close(self) -> None:
        """End the lanes' threads."""
        if self._lanes is not None:
            self._lanes.close()
            self._lanes = None

    def now(self) -> float:
        """Seconds since the run began."""
        return self._clock.now() if self._ranks is None else self._ranks.of_first(self._clock.now())

    @property
    def work(self) -> JobWork:
        """What does the jobs; a body of other lanes may have it as well, one at a time."""
        return self._work

    @property
    def start_s(self) -> float:
        """When the run began, by `time.perf_counter()`."""
        return -self._clock.at(0.0)

    @property
    def ngrams(self) -> NgramModel | None:
        """The n-gram table that a drafter asks, None without one."""
        return self._work.ngrams

    @property
    def forward_s(self) -> float:
        """Host time spent inside model forwards since this body was made; on a CPU, the models' own time."""
        return self._work.forward_s

    def submit(self, job: Job) -> None:
        """Queue a job on its lane."""
        task = self._tasks.of(job)
        if self._lanes is None:
            self._queue.append((job, task))
        else:
            self._lanes.submit(self._placement.device_of(job), job, task)

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """The next job to end, or None at the deadline. Without lanes a job that is queued is run to its end first."""
        if self._lanes is not None:
            ended = self._lanes.next_end(None if deadline_s is None else deadline_s - self._clock.at(0.0))
            if ended is None:
                return None
            times = KnownTimes(self._clock.at(ended.start_s), self._clock.at(ended.end_s))
            return self._done(ended.key, ended.result, times)
        if not self._queue:
            if deadline_s is None:
                raise RuntimeError("no job in flight and nothing to wait for")
            sleep_until(deadline_s, self.now)
            return None
        job, task = self._queue.popleft()
        with nullcontext() if self._ranks is None else self._ranks.doing(job):
            start = self._clock.mark()
            with torch.inference_mode():
                outcome = task()
            times = self._clock.between(start, self._clock.mark())
            if self._ranks is not None:
                outcome, times = self._agree(self._ranks, outcome, times)
            return self._done(job, outcome, times)

    def release(self, rows: IntArray) -> None:
        """Free the requests' KV slots."""
        self._tasks.release(rows)

    def forget(self, rows: IntArray) -> None:
        """Forget what was drafted for the requests."""
        self._tasks.forget(rows)

    def _agree(self, ranks: Ranks, own: Outcome, times: JobTimes) -> tuple[Outcome, JobTimes]:
        agreed, *known = ranks.agree(own, times.start_s, times.end_s)
        if not ranks.is_first:
            if not self._work.verifier.judges_by_law:  # laws that drafts were drawn from are the first's alone
                require_same(own.result, agreed.result)
            agreed = on_device(agreed, self._work.device)
        return agreed, KnownTimes(*known)

    def _done(self, job: Job, outcome: Outcome, times: JobTimes) -> JobDone:
        result = self._tasks.end(job, outcome)
        if self._lanes is not None and isinstance(job, DraftJob) and job.joins and isinstance(result, DraftResult):
            self._lanes.hand_over()
        is_drafters = isinstance(job, DraftJob | CatchUpJob)
        return JobDone(job, result, self._work.name_of(job.drafter) if is_drafters else TARGET_LANE, times)


def make_body(
    target: TargetModel,
    drafters: Sequence[tuple[DrafterInfo, DrafterModel | NgramModel | None]],
    sampling: Sampling,
    num_blocks: int,
    block_size: int,
    placement: Placement = SHARED,
    drafter_threads: int = 1,
    execution: Execution | None = None,
    clock: DeviceClock | None = None,
    ranks: Ranks | None = None,
) -> TorchBody:
    """Serves `target` with `drafters` over a KV pool of `num_blocks` blocks.

    A drafter has no model for prompt lookup, and where the first of several `ranks` has it.
    """
    slots = SlotTable(num_blocks, block_size)
    work = make_work(target, drafters, sampling, slots, execution or Execution())
    return TorchBody(work, slots, placement, drafter_threads, clock, ranks)
