"""The runtime's body: runs jobs on real models, on one lane, and reads a real clock."""

import time
from collections import deque
from collections.abc import Sequence

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
    Result,
    ScoreResult,
    VerifyJob,
)
from spinbench.control.lane_name import TARGET_LANE
from spinbench.control.text import LiveText
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.runtime.drafter import Drafter, LookupThenModelDrafter, ModelDrafter, PromptLookupDrafter
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.sampler import Sampler, Sampling
from spinbench.runtime.slot_table import SlotTable
from spinbench.runtime.verifier import Verifier


class TorchBody:
    """Runs jobs in the order they come. A span's lane is the model that worked; only one works at a time."""

    def __init__(self, verifier: Verifier, drafters: Sequence[tuple[DrafterInfo, Drafter]], slots: SlotTable) -> None:
        self._verifier = verifier
        self._drafters = list(drafters)
        self._slots = slots
        self._queue: deque[Job] = deque()
        self._drafts: dict[int, torch.Tensor] = {}
        self._text = LiveText([], {})
        self._start_s = time.perf_counter()

    def begin(self, text: LiveText) -> None:
        """Start a run on the requests of `text`, with an empty KV pool and the clock at zero."""
        self._text = text
        self._slots.clear()
        self._queue.clear()
        self._drafts.clear()
        self._start_s = time.perf_counter()

    def now(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._start_s

    @property
    def forward_s(self) -> float:
        """Host time spent inside model forwards since this body was made; on a CPU, the models' own time."""
        return self._verifier.runner.forward_s + sum(drafter.forward_s for _, drafter in self._drafters)

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._queue.append(job)

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """Run the next job, or sleep until the deadline if there is none."""
        if not self._queue:
            if deadline_s is None:
                raise RuntimeError("no job in flight and nothing to wait for")
            time.sleep(max(0.0, deadline_s - self.now()))
            return None
        job = self._queue.popleft()
        start_s = self.now()
        with torch.inference_mode():
            lane, result = self._run(job)
        self._synchronize()
        return JobDone(job, result, lane, start_s, self.now())

    def release(self, rows: IntArray) -> None:
        """Free the requests' KV slots."""
        for row in rows.tolist():
            self._slots.release(row)

    def _run(self, job: Job) -> tuple[str, Result]:
        self._hold_slots(job)
        match job:
            case PrefillJob(spans):
                return TARGET_LANE, self._verifier.prefill(spans, self._text)
            case CatchUpJob(index, spans, num_scored):
                info, drafter = self._drafters[index]
                if num_scored is not None:
                    return info.name, ScoreResult(drafter.score(spans, num_scored, self._text))
                drafter.catch_up(spans, self._text)
                return info.name, None
            case DraftJob():
                info, drafter = self._drafters[job.drafter]
                drafts = drafter.draft(job, self._text)
                self._drafts.update(zip(job.spans.rows.tolist(), drafts.token_ids, strict=True))
                lengths = np.array([len(tokens) for tokens in drafts.token_ids], np.int64)
                return info.name, DraftResult(lengths, drafts.confidence)
            case VerifyJob():
                result = self._verifier.verify(job, self._drafts, self._text)
                for row in job.spans.rows.tolist():
                    self._drafts.pop(row, None)
                return TARGET_LANE, result

    def _hold_slots(self, job: Job) -> None:
        stop = job.spans.stop
        if isinstance(job, DraftJob):
            stop = np.where(job.by_lookup, 0, stop + job.num_speculative_tokens - 1)
        for row, num_tokens in zip(job.spans.rows.tolist(), stop.tolist(), strict=True):
            self._slots.hold(row, num_tokens, self._text.max_tokens(row))

    def _synchronize(self) -> None:
        """Spans end when the device is done, not when the host has launched."""
        device = self._verifier.runner.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)


def make_body(
    target: TargetModel,
    drafters: Sequence[tuple[DrafterInfo, DrafterModel | None]],
    sampling: Sampling,
    num_blocks: int,
    block_size: int,
) -> TorchBody:
    """Serves `target` with `drafters` (no model for prompt lookup) over a KV pool of `num_blocks` blocks."""
    sampler = Sampler(sampling)
    slots = SlotTable(num_blocks, block_size)
    verifier = Verifier(ModelRunner(target.model, slots), sampler)
    lanes: list[tuple[DrafterInfo, Drafter]] = []
    for info, model in drafters:
        lookup = PromptLookupDrafter(info, target.model.device)
        if model is None:
            lanes.append((info, lookup))
        elif info.kind == "lookup_then_model":
            lanes.append((info, LookupThenModelDrafter(lookup, ModelDrafter(model, slots, sampler))))
        else:
            lanes.append((info, ModelDrafter(model, slots, sampler)))
    return TorchBody(verifier, lanes, slots)
