"""The runtime's body: runs jobs on real models, one after another or on lanes side by side, and reads a real clock."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import (
    CatchUpJob,
    DraftJob,
    DraftResult,
    Job,
    JobDone,
    PrefillJob,
    PrefillResult,
    Result,
    ScoreResult,
    TokenSpans,
    VerifyJob,
    VerifyResult,
)
from spinbench.control.lane_name import TARGET_LANE
from spinbench.control.placement import SHARED, Placement
from spinbench.control.text import LiveText
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.runtime.draft import Draft
from spinbench.runtime.drafter import Drafter, LookupThenModelDrafter, ModelDrafter, with_lookup
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.lane import Lanes, split_cores
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.out_of_memory import in_parts
from spinbench.runtime.proposals import Proposals
from spinbench.runtime.sampler import Sampling, make_sampler
from spinbench.runtime.slot_table import Slots, SlotTable
from spinbench.runtime.text_drafter import NgramDrafter, PromptLookupDrafter
from spinbench.runtime.token_tree import SlotMoves
from spinbench.runtime.verifier import Verifier
from spinbench.workload.acceptance.ngram_model import NgramModel


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job came to."""

    result: Result
    drafts: tuple[Draft, ...] = ()
    """Of each of its requests."""
    path: IntArray | None = None
    """The places in token trees that were accepted, see `Verifier.verify_trees`."""


class TorchBody:
    """Runs jobs: where all models share one device in turn, on the thread that asks; else on a lane for each device.

    A span's lane is the model that worked. Slots, drafts and the loop's own state are touched by the loop's thread
    alone; a lane reads the text and slots of its job's requests, which nobody changes meanwhile, and writes into the KV
    pool of its own model. A catch-up or what drafts ahead may outlive its requests, and is given their slots as it is
    submitted.
    """

    def __init__(
        self,
        verifier: Verifier,
        drafters: Sequence[tuple[DrafterInfo, Drafter]],
        slots: SlotTable,
        placement: Placement = SHARED,
        drafter_threads: int = 1,
    ) -> None:
        """With several lanes, each drafter's has `drafter_threads` CPU threads, and the target's the other ones."""
        self._verifier = verifier
        self._drafters = list(drafters)
        self._slots = slots
        self._placement = placement
        self._drafter_threads = drafter_threads
        self._lanes: Lanes | None = None
        self._queue: deque[tuple[Job, Callable[[], Outcome]]] = deque()
        self._proposals = Proposals(len(self._drafters))
        self._branch_tokens = 0
        self._text = LiveText([], {})
        self._start_s = time.perf_counter()

    def begin(self, text: LiveText, branch_tokens: int = 0) -> None:
        """Start a run on the requests of `text`, with an empty KV pool and the clock at zero.

        Branches of token trees may take `branch_tokens` slots beyond a request's longest text.
        """
        num_lanes = self._placement.num_devices(len(self._drafters))
        if self._lanes is not None:
            self._lanes.drain()
        elif num_lanes > 1:
            threads = split_cores(torch.get_num_threads(), num_lanes, self._drafter_threads)
            self._lanes = Lanes(threads, self._verifier.runner.device)
        self._synchronize()
        self._text = text
        self._branch_tokens = branch_tokens
        self._slots.clear()
        self._queue.clear()
        self._proposals.clear()
        self._start_s = time.perf_counter()

    def close(self) -> None:
        """End the lanes' threads."""
        if self._lanes is not None:
            self._lanes.close()
            self._lanes = None

    def now(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._start_s

    @property
    def start_s(self) -> float:
        """When the run began, by `time.perf_counter()`."""
        return self._start_s

    @property
    def ngrams(self) -> NgramModel | None:
        """The n-gram table that a drafter asks, None without one."""
        parts = [
            drafter.model if isinstance(drafter, LookupThenModelDrafter) else drafter for _, drafter in self._drafters
        ]
        return next((part.model for part in parts if isinstance(part, NgramDrafter)), None)

    @property
    def forward_s(self) -> float:
        """Host time spent inside model forwards since this body was made; on a CPU, the models' own time."""
        return self._verifier.runner.forward_s + sum(drafter.forward_s for _, drafter in self._drafters)

    def submit(self, job: Job) -> None:
        """Queue a job on its lane."""
        self._hold_slots(job)
        if self._lanes is None:
            self._queue.append((job, self._task(job)))
        else:
            self._lanes.submit(self._placement.device_of(job), job, self._task(job))

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """The next job to end, or None at the deadline. Without lanes a job that is queued is run to its end first."""
        if self._lanes is not None:
            ended = self._lanes.next_end(None if deadline_s is None else deadline_s + self._start_s)
            if ended is None:
                return None
            return self._done(ended.key, ended.result, ended.start_s - self._start_s, ended.end_s - self._start_s)
        if not self._queue:
            if deadline_s is None:
                raise RuntimeError("no job in flight and nothing to wait for")
            time.sleep(max(0.0, deadline_s - self.now()))
            return None
        job, task = self._queue.popleft()
        start_s = self.now()
        with torch.inference_mode():
            outcome = task()
        self._synchronize()
        return self._done(job, outcome, start_s, self.now())

    def release(self, rows: IntArray) -> None:
        """Free the requests' KV slots."""
        self._proposals.release(rows.tolist())
        for row in rows.tolist():
            self._slots.release(row)

    def _done(self, job: Job, outcome: Outcome, start_s: float, end_s: float) -> JobDone:
        result = outcome.result
        if isinstance(job, DraftJob) and isinstance(result, DraftResult):
            rows = job.spans.rows.tolist()
            if job.is_ahead:
                self._proposals.put_ahead(job, outcome.drafts)
            elif job.joins:
                result = replace(result, num_drafted=self._proposals.join(job.drafter, rows, outcome.drafts))
            else:
                self._proposals.put(job.drafter, rows, outcome.drafts)
        elif isinstance(job, VerifyJob) and isinstance(result, VerifyResult):
            result = self._proposals.settle(job.spans, result, outcome.path)
        is_drafters = isinstance(job, DraftJob | CatchUpJob)
        return JobDone(job, result, self._drafters[job.drafter][0].name if is_drafters else TARGET_LANE, start_s, end_s)

    def _task(self, job: Job) -> Callable[[], Outcome]:
        """The job as a function that needs nothing of this body's changing state."""
        text = self._text
        match job:
            case PrefillJob(spans):
                return partial(self._prefill, spans, text)
            case CatchUpJob():
                moves = self._moves(job)
                return partial(self._catch_up, job, moves, self._slots.held(job.spans.rows.tolist()), text)
            case DraftJob(is_ahead=True):
                drafts = self._proposals.await_ahead(job)
                return partial(self._go_on, job, drafts, self._slots.held(job.spans.rows.tolist()), text)
            case DraftJob():
                return partial(self._draft, job, self._moves(job), text)
            case VerifyJob():
                self._proposals.use_ahead(job)
                return partial(self._verify, job, self._proposals.drafts_of(job.spans.rows.tolist()), text)

    def _prefill(self, spans: TokenSpans, text: LiveText) -> Outcome:
        """In parts where the device has too little memory for all at once."""
        parts = in_parts("prefill", len(spans), lambda places: self._verifier.prefill(spans.only(places), text))
        return Outcome(PrefillResult(np.concatenate([part.token_ids for part in parts])))

    def _moves(self, job: CatchUpJob | DraftJob) -> SlotMoves | None:
        moves = self._proposals.take_moves(job.drafter, job.spans.rows.tolist())
        return None if moves is None else moves.within(self._slots)

    def _catch_up(self, job: CatchUpJob, moves: SlotMoves | None, slots: Slots, text: LiveText) -> Outcome:
        drafter = self._drafter(job, moves)
        if job.num_scored is not None:
            return Outcome(ScoreResult(drafter.score(job.spans, job.num_scored, text)))
        spans = job.spans
        in_parts("catch-up", len(spans), lambda places: drafter.catch_up(spans.only(places), slots, text))
        return Outcome(None)

    def _draft(self, job: DraftJob, moves: SlotMoves | None, text: LiveText) -> Outcome:
        drafts = self._drafter(job, moves).draft(job, text)
        lengths = np.array([len(draft) for draft in drafts.of_request], np.int64)
        return Outcome(DraftResult(lengths, drafts.confidence, drafts.num_steps), drafts.of_request)

    def _go_on(self, job: DraftJob, drafts: Sequence[Draft], slots: Slots, text: LiveText) -> Outcome:
        newest = torch.stack([draft.token_ids[-1] for draft in drafts])
        further = self._drafters[job.drafter][1].go_on(job, newest, slots, text).of_request
        guesses = torch.stack([draft.token_ids[0] for draft in further]).cpu().numpy()
        behind = tuple(draft.behind_first() for draft in further)
        return Outcome(DraftResult(job.num_speculative_tokens - 1, guesses=guesses), behind)

    def _drafter(self, job: CatchUpJob | DraftJob, moves: SlotMoves | None) -> Drafter:
        drafter = self._drafters[job.drafter][1]
        if moves is not None:
            drafter.move_kv(moves)
        return drafter

    def _verify(self, job: VerifyJob, drafts: Mapping[int, Draft], text: LiveText) -> Outcome:
        if all(draft.parents is None for draft in drafts.values()):
            return Outcome(self._verifier.verify(job, drafts, text))
        result, path = self._verifier.verify_trees(job, drafts, text)
        return Outcome(result, path=path)

    def _hold_slots(self, job: Job) -> None:
        stop = job.spans.stop
        if isinstance(job, DraftJob):
            # the last token of a chain is not fed back; of a tree it may have a lower number than one that is
            further = job.num_speculative_tokens - 1 if job.tree is None else job.num_nodes
            stop = np.where(job.by_lookup, 0, stop + further)
        for row, num_tokens in zip(job.spans.rows.tolist(), stop.tolist(), strict=True):
            self._slots.hold(row, num_tokens, self._text.max_tokens(row) + self._branch_tokens)

    def _synchronize(self) -> None:
        """Spans end when the device is done, not when the host has launched."""
        device = self._verifier.runner.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)


def make_body(
    target: TargetModel,
    drafters: Sequence[tuple[DrafterInfo, DrafterModel | NgramModel | None]],
    sampling: Sampling,
    num_blocks: int,
    block_size: int,
    placement: Placement = SHARED,
    drafter_threads: int = 1,
    execution: Execution | None = None,
) -> TorchBody:
    """Serves `target` with `drafters` (no model for prompt lookup) over a KV pool of `num_blocks` blocks."""
    sampler = make_sampler(sampling)
    slots = SlotTable(num_blocks, block_size)
    execution = execution or Execution()
    runner = ModelRunner(target.model, slots, execution.attention)
    verifier = Verifier(runner, sampler, execution.forward_replays(runner, slots))
    lanes: list[tuple[DrafterInfo, Drafter]] = []
    device = target.model.device
    for info, model in drafters:
        if isinstance(model, NgramModel):
            lanes.append((info, with_lookup(info, NgramDrafter(model, device), device)))
        elif model is not None:
            lanes.append((info, with_lookup(info, ModelDrafter(model, slots, sampler, execution=execution), device)))
        else:
            lanes.append((info, PromptLookupDrafter(info, device)))
    return TorchBody(verifier, lanes, slots, placement, drafter_threads)
