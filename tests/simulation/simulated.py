"""Runs in the simulator from a few parts made by hand."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from spinbench.control.costs.overlap import Overlap
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.draft_length.protocol import DraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.body import Body
from spinbench.control.jobs.job import Job
from spinbench.control.layout.decomposed import DecomposedLayout
from spinbench.control.layout.grouped import GroupedLayout
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.layout.padded import PaddedLayout
from spinbench.control.layout.protocol import VerificationLayout
from spinbench.control.loop import ServingLoop
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.pipeline import MicroBatchPipeline, Pipeline, SerialPipeline, Split
from spinbench.control.placement import Placement, PlacementKind
from spinbench.control.records.run_record import RunRecord
from spinbench.control.selector.fixed import FixedSelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.protocol import Selector, SelectorSetting
from spinbench.control.switching import SwitchingKind
from spinbench.simulation.body import JobTimes
from spinbench.simulation.session import simulated_loop
from spinbench.workload.acceptance.streams import AcceptanceStreams
from spinbench.workload.acceptance.synthetic import DifficultyClass, SyntheticLaw, synthetic_streams
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from spinbench.workload.request import Request

PROMPT_TOKENS = 3
LAYOUTS: dict[str, VerificationLayout] = {
    "packed": PackedLayout(),
    "padded": PaddedLayout(),
    "grouped": GroupedLayout(window_tokens=16),
    "decomposed": DecomposedLayout(width=20),
}
MakeSelector = Callable[[SelectorSetting], Selector]


class StatedTimes:
    """Durations by kind of job, in seconds; a draft costs its longest K times `draft_token_s`."""

    warnings = ()

    def __init__(
        self,
        prefill_s: float = 1.0,
        verify_s: float = 1.0,
        draft_token_s: float = 0.0,
        catch_up_s: float = 0.0,
        gap_s: float = 0.0,
    ) -> None:
        self._by_kind = {"PrefillJob": prefill_s, "VerifyJob": verify_s, "CatchUpJob": catch_up_s}
        self._draft_token_s = draft_token_s
        self._gap_s = gap_s

    def job_s(self, job: Job) -> float:
        lengths = getattr(job, "num_speculative_tokens", None)
        return self._by_kind[type(job).__name__] if lengths is None else self._draft_token_s * int(lengths.max())

    def gap_s(self, job: Job) -> float:
        return self._gap_s


def requests(count: int, num_tokens: int | Sequence[int], arrivals_s: Sequence[float] | None = None) -> list[Request]:
    """Lengths without text, all at once unless told otherwise."""
    lengths = [num_tokens] * count if isinstance(num_tokens, int) else num_tokens
    return [
        Request(
            f"r{i}", arrivals_s[i] if arrivals_s is not None else 0.0, lengths[i], prompt_len_tokens=PROMPT_TOKENS,
            ignore_eos=True, seed=i,
        )
        for i in range(count)
    ]  # fmt: skip


def bernoulli(trace: Sequence[Request], rates: dict[str, float], seed: int = 0) -> AcceptanceStreams:
    """Each token accepted with its drafter's rate, independently."""
    law = SyntheticLaw((DifficultyClass("all", 1.0, {name: (rate,) for name, rate in rates.items()}),))
    return synthetic_streams(trace, tuple(rates), law, seed)


def simulate(*parts: Any, **decisions: Any) -> RunRecord:
    """A run of what `loop_of` makes."""
    return loop_of(*parts, **decisions).run()


def loop_of(
    trace: Sequence[Request],
    streams: AcceptanceStreams,
    times: JobTimes,
    *,
    infos: Sequence[DrafterInfo] | None = None,
    selector: MakeSelector = PlainSelector,
    draft_length: DraftLength | int = 4,
    max_num_seqs: int = 1,
    layout: VerificationLayout | None = None,
    num_kv_blocks: int = 100_000,
    block_size: int = 16,
    pattern: ArrivalPattern | None = None,
    seed: int = 0,
    eos_token_ids: frozenset[int] = frozenset(),
    pipeline: Pipeline | None = None,
    placement: PlacementKind = "shared",
    switching: SwitchingKind = "on_demand",
    interface: Callable[[Body], Body] | None = None,
    overlap: Overlap | None = None,
    at_once: bool = False,
) -> ServingLoop:
    """A loop that serves `trace`, whose streams are in its order."""
    infos = tuple(infos if infos is not None else (DrafterInfo(name, "model") for name in streams.drafters))
    policy = FixedDraftLength(draft_length) if isinstance(draft_length, int) else draft_length
    rng = np.random.default_rng(seed)
    setting = LoopSetting(
        drafters=infos,
        selector=selector(SelectorSetting(infos, max_num_seqs, len(trace), rng, policy.max_num_speculative_tokens)),
        draft_length=policy,
        layout=layout or PackedLayout(),
        eos_token_ids=eos_token_ids,
        num_kv_blocks=num_kv_blocks,
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=2048,
        pipeline=pipeline or SerialPipeline(),
        placement=Placement(placement),
        switching=switching,
    )
    queue = ArrivalQueue(trace, pattern or ArrivalPattern(kind="trace"))
    lengths = {
        request.id: request.prompt_len_tokens or len(request.prompt_token_ids or ()) for request in queue.requests
    }
    return simulated_loop(
        setting, queue, streams, lengths, times, interface=interface, overlap=overlap, at_once=at_once
    )


def micro_batches(depth: int | Literal["adaptive"], split: Split = "by_drafter", **changes: int) -> MicroBatchPipeline:
    """A pipeline of this depth."""
    return MicroBatchPipeline(
        depth, split, **{"max_depth": 16, "passes_per_trial": 8, "trials_per_probe": 8, **changes}
    )


def fixed(drafter: str = "d") -> MakeSelector:
    """A maker of a selector that always takes this drafter."""
    return lambda setting: FixedSelector(setting, drafter=drafter)
