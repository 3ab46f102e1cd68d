"""Steps of whole models: the target's against the memory's limit, drafts, host time, two streams at once."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.gpu.part import Row
from benchmarks.gpu.scene import NUM_SPECULATIVE_TOKENS, Scene, draft_job, made_text, slots_of, tail_spans
from spinbench.calibration.measuring.device_facts import median_s
from spinbench.control.jobs.job import DraftJob, VerifyJob
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.text import LiveText
from spinbench.models.shape_model import shape_model
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.graphs.draft_replays import DraftReplays
from spinbench.runtime.graphs.static_forward import ForwardReplays
from spinbench.runtime.kv.kv_pool import KvShape
from spinbench.runtime.kv.slot_table import SlotTable
from spinbench.runtime.lanes.streams import stream_of
from spinbench.runtime.sampling.sampler import Sampler, Sampling
from spinbench.runtime.verifier import Verifier


@dataclass(frozen=True)
class Models:
    """A target and a drafter with pools, and their replays."""

    verifier: Verifier
    target: ForwardReplays
    drafter: DraftReplays
    streamed_bytes: int
    """Weights that a step of the target reads: all but the embedding, of which it takes a row a token."""
    kv_bytes_per_token: int
    slots: SlotTable

    @classmethod
    def made(cls, scene: Scene) -> "Models":
        """With room for the largest batch."""
        slots = slots_of(max(scene.batches), scene.context_tokens, NUM_SPECULATIVE_TOKENS + 1)
        execution = scene.execution()
        made = [shape_model(shape, scene.dtype, scene.device) for shape in (scene.target, scene.drafter)]
        runners = [ModelRunner(model, slots, execution.attention) for model in made]
        target = execution.forward_replays(runners[0], slots)
        sampler = Sampler(Sampling())
        drafter = execution.draft_replays(runners[1], sampler, None, slots)
        assert target is not None
        assert drafter is not None
        parameters = sum(parameter.numel() for parameter in made[0].parameters())
        streamed = parameters - scene.target.vocab_size * scene.target.hidden_size
        per_token = KvShape.of(made[0].config).bytes_per_token(scene.dtype)
        verifier = Verifier(runners[0], sampler, target)
        return cls(verifier, target, drafter, streamed * scene.dtype.itemsize, per_token, slots)


def target_steps(scene: Scene, models: Models, copy_bytes_per_s: float) -> Iterator[Row]:
    """Plain steps (one row a request) and verifications, by batch, against bytes over measured copy bandwidth."""
    for batch in scene.batches:
        for num_rows in (1, NUM_SPECULATIVE_TOKENS + 1):
            spans = tail_spans([scene.context_tokens] * batch, num_rows)
            tokens = torch.zeros(batch * num_rows, dtype=torch.int64, device=scene.device)
            plan = PackedLayout().plan(spans.num_tokens, spans.stop)
            with torch.inference_mode():
                replay = models.target.prepared(spans, tokens, plan)
                if replay is None:
                    raise RuntimeError(f"no graph for {batch} x {num_rows} rows; the log says why")
                device_s = median_s(replay.run, scene.device)
                wall_s = wall_seconds(scene, partial(models.target.logits, spans, tokens, plan))
            moved = models.streamed_bytes + batch * scene.context_tokens * models.kv_bytes_per_token
            limit_s = moved / copy_bytes_per_s
            yield {
                "batch": batch,
                "rows_per_request": num_rows,
                "context_tokens": scene.context_tokens,
                "device_ms": 1e3 * device_s,
                "wall_ms": 1e3 * wall_s,
                "host_share": max(0.0, 1 - device_s / wall_s),
                "memory_limit_ms": 1e3 * limit_s,
                "times_the_limit": device_s / limit_s,
            }


def draft_loops(scene: Scene, models: Models) -> Iterator[Row]:
    """Whole drafts of the drafter's shape, by batch."""
    for batch in scene.batches:
        job = draft_job(batch, scene.context_tokens)
        text = made_text(batch, scene.context_tokens + 1, scene.drafter.vocab_size)
        known = known_tokens(scene, job, text)
        with torch.inference_mode():
            replay = models.drafter.prepared(job, known, None, text, False)
            if replay is None:
                raise RuntimeError(f"no graph for drafts of {batch} requests; the log says why")
            device_s = median_s(replay.run, scene.device)
            wall_s = wall_seconds(scene, partial(models.drafter.draft, job, known, None, text, None))
        yield {
            "batch": batch,
            "tokens": NUM_SPECULATIVE_TOKENS,
            "device_us_per_token": 1e6 * device_s / NUM_SPECULATIVE_TOKENS,
            "wall_us_per_token": 1e6 * wall_s / NUM_SPECULATIVE_TOKENS,
        }


def waits(scene: Scene, models: Models) -> Iterator[Row]:
    """How often the host waits for the device within a draft and within a verification, by torch's own count."""
    for batch in scene.batches[:2]:
        job = draft_job(batch, scene.context_tokens)
        text = made_text(batch, scene.context_tokens + 1, scene.drafter.vocab_size)
        spans = tail_spans([scene.context_tokens] * batch, NUM_SPECULATIVE_TOKENS + 1)
        verify = VerifyJob(spans, PackedLayout().plan(spans.num_tokens, spans.stop))
        known = known_tokens(scene, job, text)
        with torch.inference_mode():
            drafted = models.drafter.draft(job, known, None, text, None)
            if drafted is None:
                raise RuntimeError(f"no graph for drafts of {batch} requests; the log says why")
            drafts = dict(enumerate(drafted))
            models.verifier.verify(verify, drafts, text)  # captured
            in_draft = _count_waits(scene, partial(models.drafter.draft, job, known, None, text, None))
            in_verify = _count_waits(scene, partial(models.verifier.verify, verify, drafts, text))
        yield {"batch": batch, "in_a_draft": in_draft, "in_a_verification": in_verify}


def known_tokens(scene: Scene, job: DraftJob, text: LiveText) -> torch.Tensor:
    """The newest tokens, on the device."""
    return torch.from_numpy(text.span_token_ids(job.spans)).to(scene.device)


def _count_waits(scene: Scene, run: Callable[[], object]) -> int:
    if not scene.on_cuda:
        run()
        return 0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    # torch also says, once, that this way of counting is a prototype
    return sum("called a synchronizing CUDA operation" in str(one.message) for one in said)


def overlap(scene: Scene, models: Models) -> Iterator[Row]:
    """A verification and a draft alone, and both at once on two streams: (a + b) / both is what lanes gain at most."""
    for batch in scene.batches:
        spans = tail_spans([scene.context_tokens] * batch, NUM_SPECULATIVE_TOKENS + 1)
        tokens = torch.zeros(int(spans.num_tokens.sum()), dtype=torch.int64, device=scene.device)
        plan = PackedLayout().plan(spans.num_tokens, spans.stop)
        text = made_text(batch, scene.context_tokens + 1, scene.drafter.vocab_size)
        job = draft_job(batch, scene.context_tokens)
        known = known_tokens(scene, job, text)
        with torch.inference_mode():
            verify = models.target.prepared(spans, tokens, plan)
            draft = models.drafter.prepared(job, known, None, text, False)
            if verify is None or draft is None:
                raise RuntimeError(f"no graph for a batch of {batch}; the log says why")
            verify_s, draft_s = median_s(verify.run, scene.device), median_s(draft.run, scene.device)
            # the draft as often as it fits beside the verification
            times = max(1, int(verify_s / draft_s)) if scene.on_cuda else 1

            drafts = partial(_repeat, draft.run, times)
            both_s = wall_seconds(scene, _side_by_side(scene, verify.run, drafts))
            apart_s = wall_seconds(scene, partial(_in_turn, verify.run, drafts))
        yield {
            "batch": batch,
            "verify_ms": 1e3 * verify_s,
            "drafts": times,
            "draft_ms": 1e3 * draft_s,
            "one_after_the_other_ms": 1e3 * apart_s,
            "two_streams_ms": 1e3 * both_s,
            "gain": apart_s / both_s,
        }


def _repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def _in_turn(first: Callable[[], object], second: Callable[[], object]) -> None:
    first()
    second()


def _side_by_side(scene: Scene, first: Callable[[], object], second: Callable[[], object]) -> Callable[[], None]:
    if not scene.on_cuda:
        return partial(_in_turn, first, second)
    streams = [stream_of(f"lane {lane}", torch.device("cuda")) for lane in range(2)]

    def run() -> None:
        for stream, part in zip(streams, (first, second), strict=True):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                part()
        for stream in streams:
            torch.cuda.current_stream().wait_stream(stream)

    return run


def wall_seconds(scene: Scene, run: Callable[[], object], repeats: int = 9) -> float:
    """Seconds from a call to the end of all that it launched: the median."""
    seconds = []
    for _ in range(repeats if scene.on_cuda else 1):
        if scene.on_cuda:
            torch.cuda.synchronize()
        start_s = time.perf_counter()
        run()
        if scene.on_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start_s)
    return sorted(seconds)[len(seconds) // 2]
