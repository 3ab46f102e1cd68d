"""The runtime's body: runs jobs on real models, on one lane, and reads a real clock."""

import time
from collections import deque
from collections.abc import Sequence

import torch

from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import (
    CatchUpJob,
    DraftJob,
    DraftResult,
    Job,
    JobDone,
    PrefillJob,
    PrefillResult,
    VerifyJob,
    VerifyResult,
)
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.runtime.drafter import Drafter, LookupThenModelDrafter, ModelDrafter, PromptLookupDrafter
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.sampler import Sampler, Sampling
from spinbench.runtime.verifier import Verifier

TARGET_LANE = "target"


class TorchBody:
    """Runs jobs in the order they come. A span's lane is the model that worked; only one works at a time."""

    def __init__(self, verifier: Verifier, drafters: Sequence[tuple[DrafterInfo, Drafter]]) -> None:
        self._verifier = verifier
        self._drafters = list(drafters)
        self._queue: deque[Job] = deque()
        self._drafts: dict[str, torch.Tensor] = {}
        self._start_s = time.perf_counter()

    def now(self) -> float:
        """Seconds since this body was made, or since its clock was restarted."""
        return time.perf_counter() - self._start_s

    @property
    def forward_s(self) -> float:
        """Host time spent inside model forwards since this body was made; on a CPU, the models' own time."""
        return self._verifier.runner.forward_s + sum(drafter.forward_s for _, drafter in self._drafters)

    def restart_clock(self) -> None:
        """Count from zero again: after a warm-up, before the loop that serves the trace is made."""
        self._start_s = time.perf_counter()

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

    def _run(self, job: Job) -> tuple[str, PrefillResult | DraftResult | VerifyResult | None]:
        match job:
            case PrefillJob(spans):
                return TARGET_LANE, self._verifier.prefill(spans)
            case CatchUpJob(index, spans):
                info, drafter = self._drafters[index]
                drafter.catch_up(spans)
                return info.name, None
            case DraftJob(index, items, measure_confidence):
                info, drafter = self._drafters[index]
                drafts = drafter.draft(items, measure_confidence)
                for item, tokens in zip(items, drafts.token_ids, strict=True):
                    self._drafts[item.span.state.request.id] = tokens
                return info.name, DraftResult(tuple(len(tokens) for tokens in drafts.token_ids), drafts.confidence)
            case VerifyJob():
                result = self._verifier.verify(job, self._drafts)
                for item in job.items:
                    self._drafts.pop(item.state.request.id, None)
                return TARGET_LANE, result

    def _synchronize(self) -> None:
        """Spans end when the device is done, not when the host has launched."""
        device = self._verifier.runner.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)


def make_body(
    target: TargetModel,
    drafters: Sequence[tuple[DrafterInfo, DrafterModel | None]],
    sampling: Sampling,
    num_slots: int,
) -> TorchBody:
    """Serves `target` with `drafters` (no model for prompt lookup); has room for `num_slots` tokens' KV."""
    sampler = Sampler(sampling)
    verifier = Verifier(ModelRunner(target.model, num_slots), sampler)
    lanes: list[tuple[DrafterInfo, Drafter]] = []
    for info, model in drafters:
        lookup = PromptLookupDrafter(info, target.model.device)
        if model is None:
            lanes.append((info, lookup))
        elif info.kind == "lookup_then_model":
            lanes.append((info, LookupThenModelDrafter(lookup, ModelDrafter(model, num_slots, sampler))))
        else:
            lanes.append((info, ModelDrafter(model, num_slots, sampler)))
    return TorchBody(verifier, lanes)
