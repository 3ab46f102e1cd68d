"""The serving loop's own time between jobs, measured by letting it serve a short made-up trace."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from spinbench.calibration.profile.point import GapPoint
from spinbench.control.costs.job_cost import JobKind
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.records.span_chunk import OUT_OF_MEMORY
from spinbench.control.records.span_record import SpanColumns
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.round_robin import RoundRobinSelector
from spinbench.runtime.body import TorchBody
from spinbench.runtime.out_of_memory import TooLittleMemory
from spinbench.runtime.session import live_loop
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from spinbench.workload.request import Request

PROMPT_TOKENS = 24
ANSWER_TOKENS = 24
NUM_SPECULATIVE_TOKENS = 3
REQUESTS_PER_SEAT = 2
"""Requests over batch size: the second half is admitted one by one, as places become free."""


def loop_gaps_s(
    body: TorchBody,
    drafters: Sequence[DrafterInfo],
    max_num_seqs: int,
    num_blocks: int,
    block_size: int,
    vocab_size: int,
) -> dict[GapPoint, list[float]]:
    """Seconds between jobs while made-up requests are served at this batch size, every drafter taking its turn.

    Drafters change every round, so the decisions cost what a simple selector's do. Raises KeyboardInterrupt if Ctrl-C
    ends it, TooLittleMemory without memory for so many requests.
    """
    rng = np.random.default_rng(max_num_seqs)
    requests = [
        Request(f"made-up-{number}", 0.0, ANSWER_TOKENS, prompt_len_tokens=PROMPT_TOKENS, ignore_eos=True, seed=number)
        for number in range(REQUESTS_PER_SEAT * max_num_seqs)
    ]
    prompts = {request.id: tuple(rng.integers(0, vocab_size, PROMPT_TOKENS).tolist()) for request in requests}
    setting = SelectorSetting(tuple(drafters), max_num_seqs, len(requests), rng)
    loop_setting = LoopSetting(
        drafters=tuple(drafters),
        selector=RoundRobinSelector(setting, rounds_per_choice=1) if drafters else PlainSelector(setting),
        draft_length=FixedDraftLength(NUM_SPECULATIVE_TOKENS),
        layout=PackedLayout(),
        eos_token_ids=frozenset(),
        num_kv_blocks=num_blocks,
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=PROMPT_TOKENS * max_num_seqs,
    )
    queue = ArrivalQueue(requests, ArrivalPattern(kind="all_at_once"))
    record = live_loop(loop_setting, body, queue, prompts).run()
    if not record.complete:
        raise KeyboardInterrupt
    if OUT_OF_MEMORY in record.spans.kind:
        raise TooLittleMemory(f"out of memory where {max_num_seqs} requests are served; lower max_num_seqs")
    return span_gaps_s(record.spans)


def span_gaps_s(spans: SpanColumns) -> dict[GapPoint, list[float]]:
    """Seconds between each job and the next, of a run that did one job at a time and never waited for a request."""
    gaps: dict[GapPoint, list[float]] = defaultdict(list)
    kinds: list[JobKind] = [
        kind for kind in spans.kind if kind not in ("host", "generate", "draft_ahead", "out_of_memory")
    ]
    sizes = np.diff(spans.first_row).tolist()
    seconds = (spans.start_s[1:] - spans.end_s[:-1]).tolist()
    for (kind, next_kind), size, gap_s in zip(pairwise(kinds), sizes, seconds, strict=False):
        gaps[GapPoint(kind, next_kind, size)].append(gap_s)
    return gaps
