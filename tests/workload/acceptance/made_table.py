"""Small acceptance tables, made without a model."""

from collections.abc import Sequence

import numpy as np

from spinbench.workload.acceptance.lookup import lookup_columns
from spinbench.workload.acceptance.table import AcceptanceTable, DrafterColumns, RecordedRequests
from spinbench.workload.acceptance.table_meta import DrafterMeta, ModelMeta, SamplingMeta, TableMeta, TraceMeta
from spinbench.workload.request import Request

TARGET_SHA256 = "a" * 64
TRACE_SHA256 = "b" * 64
GREEDY = SamplingMeta(temperature=0.0, top_p=1.0, top_k=0)
EOS = 1


def meta(
    drafters: Sequence[str], sampling: SamplingMeta = GREEDY, rollout_tokens: int = 1, lookup_agreed: bool = False
) -> TableMeta:
    return TableMeta(
        target=ModelMeta(name="target", sha256=TARGET_SHA256),
        trace=TraceMeta(name="trace", sha256=TRACE_SHA256),
        drafters=tuple(
            DrafterMeta(name=name, sha256=str(index) * 64, macs_per_token=100 + index, rollout_tokens=rollout_tokens)
            for index, name in enumerate(drafters)
        ),
        sampling=sampling,
        dtype="float32",
        eos_token_ids=(EOS,),
        use_chat_template=True,
        versions={"spinbench": "0.1.0"},
        created="2026-01-01T00:00:00Z",
        lookup_agreed=lookup_agreed,
    )


def columns(rank: Sequence[int], rollout_tokens: int = 1) -> DrafterColumns:
    ranks = np.array(rank, np.uint8)
    rollout = np.random.default_rng(2).integers(0, 60, (rollout_tokens - 1, len(ranks)), np.uint8)
    return DrafterColumns(ranks, np.minimum(ranks, 200), np.minimum(ranks, 100), rollout if len(rollout) else None)


def made_table(
    ranks: dict[str, list[list[int]]],
    *,
    prompts: Sequence[Sequence[int]] | None = None,
    token_ids: Sequence[Sequence[int]] | None = None,
    stopped: Sequence[bool] | None = None,
    categories: Sequence[str | None] | None = None,
    sampling: SamplingMeta = GREEDY,
    rollout_tokens: int = 1,
    lookup_agreed: bool = False,
) -> AcceptanceTable:
    """`ranks` by drafter and request; without `token_ids` no token repeats."""
    lengths = [len(request) for request in next(iter(ranks.values()))]
    count = len(lengths)
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    tokens = np.arange(1000, 1000 + offsets[-1]) if token_ids is None else np.concatenate(token_ids)
    prompts = prompts or [[5]] * count
    lookup = lookup_columns(prompts, tokens.astype(np.int32), offsets)
    return AcceptanceTable(
        meta(list(ranks), sampling, rollout_tokens, lookup_agreed),
        RecordedRequests(
            ids=tuple(f"r{index}" for index in range(count)),
            prompt_tokens=np.array([len(prompt) for prompt in prompts], np.int64),
            max_new_tokens=np.array(lengths, np.int64),
            stopped=np.array(stopped or [False] * count),
            ignores_eos=np.zeros(count, np.bool_),
            seeds=np.arange(count, dtype=np.int64),
            categories=tuple(categories or [None] * count),
            offsets=offsets,
        ),
        tokens.astype(np.int32),
        lookup.match_order,
        lookup.lookup_run,
        {
            name: columns([rank for request in requests for rank in request], rollout_tokens)
            for name, requests in ranks.items()
        },
        lookup_agreed=lookup.lookup_agreed if lookup_agreed else None,
    )


def request(index: int, max_new_tokens: int, **changes: object) -> Request:
    """The request that row `index` of `made_table` was recorded for."""
    facts: dict = {"id": f"r{index}", "arrival_s": 0.0, "prompt": "x", "seed": index, **changes}
    return Request(max_new_tokens=max_new_tokens, **facts)
