"""The runtime's own models, attention, sampler and body, set up so that single passes and jobs can be timed."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface

from spinbench.calibration.measuring.device_facts import median_s
from spinbench.calibration.measuring.two_lanes import LESS, TwoLanes, job_seconds
from spinbench.calibration.profile.meta import DrafterMeta
from spinbench.calibration.profile.plan import ProfileLimits
from spinbench.calibration.profile.point import JobPoint, PassPoint
from spinbench.control.arrays import IntArray
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import PrefillJob
from spinbench.control.kv_budget import blocks_for
from spinbench.control.placement import Placement
from spinbench.control.text import LiveText
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.runtime.body import TorchBody
from spinbench.runtime.drafters.drafter import Drafter
from spinbench.runtime.drafters.lookup import with_lookup
from spinbench.runtime.drafters.model import ModelDrafter
from spinbench.runtime.drafters.text import NgramDrafter, PromptLookupDrafter
from spinbench.runtime.forward.attention import ATTENTION_NAME, paged_attention
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.graphs.capture import Captured, capture
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.graphs.static_pass import row_bucket
from spinbench.runtime.job_work import JobWork
from spinbench.runtime.kv.slot_table import SlotTable
from spinbench.runtime.out_of_memory import too_little_memory
from spinbench.runtime.sampling.sampler import Sampling, TokenSampler, make_sampler
from spinbench.runtime.upload import upload
from spinbench.runtime.verifier import Verifier
from spinbench.workload.acceptance.ngram_model import NgramModel
from spinbench.workload.request import Request

BLOCK_SIZE = 16
PERIOD_TOKENS = 16
"""Texts repeat themselves after this many tokens, so that a lookup always finds something to copy."""

Choose = Callable[[torch.Tensor, IntArray, IntArray], torch.Tensor]
"""Token ids from logits [rows, vocab], seeds and positions."""


class Bench:
    """Times what a profile asks for. Requests are rows 0, 1, ... of made-up texts, each as long as the limits allow."""

    def __init__(
        self,
        target: TargetModel,
        drafters: Sequence[tuple[DrafterMeta, DrafterInfo, DrafterModel | NgramModel | None]],
        sampling: Sampling,
        limits: ProfileLimits,
        execution: Execution | None = None,
    ) -> None:
        self.device = target.model.device
        self._longest = limits.max_context_tokens
        self._num_requests = limits.max_num_seqs
        self.vocab_size = target.vocab_size
        self.num_blocks = num_blocks(limits)
        self._slots = SlotTable(self.num_blocks, BLOCK_SIZE)
        sampler = make_sampler(sampling)
        # noise comes from the host, which a graph would leave out
        self._captures = execution is not None and execution.graphs == "cuda" and sampling.temperature == 0
        self._graphs: dict[PassPoint, Captured] = {}
        """Of passes that were timed: a capture takes longer than many a replay."""
        self._graph_pool: Any = None
        execution = execution or Execution()
        runner = ModelRunner(target.model, self._slots, execution.attention)
        self._runners = {target.name: runner}
        self._choose: dict[str, Choose] = {target.name: sampler.target_tokens}
        lanes: list[tuple[DrafterInfo, Drafter | None]] = []
        of_model: dict[str, ModelDrafter] = {}
        for meta, info, model in drafters:
            lane: Drafter = PromptLookupDrafter(info, self.device)
            if isinstance(model, NgramModel):
                lane = with_lookup(info, NgramDrafter(model, self.device), self.device)
            elif model is not None and meta.model is not None:
                if meta.model not in of_model:
                    of_model[meta.model] = ModelDrafter(model, self._slots, sampler, execution=execution)
                    self._runners[meta.model] = of_model[meta.model].runner
                    self._choose[meta.model] = _draft_choice(sampler, model.target_ids)
                lane = with_lookup(info, of_model[meta.model], self.device)
            lanes.append((info, lane))
        self._lane_places = {info.name: place for place, (info, _) in enumerate(lanes)}
        verifier = Verifier(runner, sampler, execution.forward_replays(runner, self._slots))
        self.body = TorchBody(JobWork(verifier, lanes), self._slots)

    def begin(self) -> None:
        """Make the texts and give every request its slots; needed before the first timing, and after other runs."""
        rng = np.random.default_rng(0)
        requests, prompts = [], {}
        for row in range(self._num_requests):
            name = f"row-{row}"
            requests.append(Request(name, 0.0, 1, prompt_len_tokens=self._longest, seed=row))
            period = rng.integers(0, self.vocab_size, PERIOD_TOKENS)
            prompts[name] = tuple(np.resize(period, self._longest - 1).tolist())
        self._text = LiveText(requests, prompts)
        self.body.begin(self._text)
        self._hold(range(self._num_requests))

    def pass_s(self, point: PassPoint) -> float:
        """Seconds of one forward pass and the choice of its tokens: where passes are replayed, of a replay.

        Raises TooLittleMemory, as `job_s` does.
        """
        with too_little_memory(f"a pass of {point.num_rows} rows", LESS):
            return self._pass_s(point)

    def _pass_s(self, point: PassPoint) -> float:
        if point in self._graphs:
            return self._replayed_s(self._graphs[point])
        runner, choose = self._runners[point.model], self._choose[point.model]
        spans, plan = point.spans, point.plan
        width = plan.query_width
        own = np.arange(width or 1) < spans.num_tokens[:, None]
        real_rows = np.flatnonzero(own) if width else np.arange(int(spans.num_tokens.sum()))
        logit_rows = torch.from_numpy(real_rows[-point.num_head_rows :]).to(self.device)
        seeds, positions = np.arange(point.num_head_rows), np.arange(point.num_head_rows)
        tokens = torch.from_numpy(self._text.span_token_ids(spans))
        if width:
            rectangle = torch.zeros(own.shape, dtype=torch.int64)
            rectangle[torch.from_numpy(own)] = tokens
            tokens = rectangle.view(-1)
        tokens = tokens.to(self.device)

        def run() -> None:
            if plan.rectangles:
                logits = runner.tiled(spans, tokens, plan, logit_rows)
            else:
                logits = runner.packed(spans, tokens, logit_rows)
            choose(logits, seeds, positions)

        with torch.inference_mode(), attention_left_out() if point.attention == "none" else nullcontext():
            if not self._captures or row_bucket(len(tokens)) is None:
                return self._timed_s(run)
            rows, batch = runner.tiled_pass(spans, plan) if plan.rectangles else runner.packed_pass(spans)
            on_device = upload(rows, self.device)
            captured = self._captured(
                lambda: choose(runner.forward(tokens, on_device, batch, logit_rows), seeds, positions)
            )
        self._graphs[point] = captured
        return self._replayed_s(captured)

    def job_s(self, point: JobPoint) -> float:
        """Seconds of one job, from its start to its end on its lane."""
        job = point.job(self._lane_places.get(point.lane, 0))
        fresh = isinstance(job, PrefillJob)
        if fresh:
            # a newcomer gets its slots in its prefill
            self.body.release(job.spans.rows)
        self.body.submit(job)
        done = self.body.next_event(None)
        if done is None:
            raise RuntimeError("the body did not do the job that it was given")
        if fresh:
            self._hold(job.spans.rows.tolist())
        return job_seconds(done)

    @contextmanager
    def two_lanes(self, drafter_threads: int) -> Iterator[TwoLanes]:
        """The target on one lane of the device and the drafters on another; `begin` anew after it."""
        body = TorchBody(self.body.work, self._slots, Placement("drafters_together"), drafter_threads)
        try:
            body.begin(self._text)
            self._hold(range(self._num_requests))
            yield TwoLanes(body, self._lane_places)
        finally:
            body.close()

    def _hold(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._slots.hold(row, self._longest, self._longest)

    def _captured(self, run: Callable[[], object]) -> Captured:
        """The graph of a pass; all of them share their memory, as none reads what another left."""
        if self._graph_pool is None:
            self._graph_pool = torch.cuda.graph_pool_handle()
        return capture(run, self.device, self._graph_pool)

    def _replayed_s(self, captured: Captured) -> float:
        return median_s(captured.replay, self.device, repeats=3)

    def _timed_s(self, run: Callable[[], None]) -> float:
        if self.device.type != "cuda":
            start_s = time.perf_counter()
            run()
            return time.perf_counter() - start_s
        with torch.cuda.device(self.device):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            run()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1e3


def num_blocks(limits: ProfileLimits) -> int:
    """KV blocks with which every request can be as long as the limits allow."""
    return limits.max_num_seqs * blocks_for(limits.max_context_tokens, BLOCK_SIZE)


@contextmanager
def attention_left_out() -> Iterator[None]:
    """Inside, the runtime's attention returns zeros at once: what remains of a pass depends on its rows alone."""

    def nothing(
        module: torch.nn.Module, query: torch.Tensor, *rest: object, **extras: object
    ) -> tuple[torch.Tensor, None]:
        return query.new_zeros(1, query.shape[2], query.shape[1], query.shape[3]), None

    AttentionInterface.register(ATTENTION_NAME, nothing)
    try:
        yield
    finally:
        AttentionInterface.register(ATTENTION_NAME, paged_attention)


def _draft_choice(sampler: TokenSampler, target_ids: torch.Tensor | None) -> Choose:
    return lambda logits, seeds, positions: sampler.draft(logits, seeds, positions, positions, target_ids).token_ids
