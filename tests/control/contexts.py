"""Contexts and outcomes of rounds, for tests of what decides by them."""

from collections.abc import Sequence

import numpy as np

from spinbench.control.context import RoundContext, RoundOutcome


def context(num_requests: int, num_rounds: int = 0, num_drafters: int = 3, rows: Sequence[int] | None = None):
    """A context of requests that are all alike."""

    def same(value: int) -> np.ndarray:
        return np.full(num_requests, value, np.int64)

    return RoundContext(
        rows=np.arange(num_requests) if rows is None else np.array(rows),
        category=same(-1), num_rounds=same(num_rounds), context_tokens=same(10), output_tokens=same(1),
        remaining_tokens=same(9), lookup_match_order=same(0), last_drafter=same(-1), last_drafted=same(0),
        last_accepted=same(0), last_confidence=np.full(num_requests, np.nan),
        missing_kv_tokens=np.zeros((num_requests, num_drafters), np.int64), num_waiting=0,
    )  # fmt: skip


def outcome(rows, drafter, accepted, draft_time_s, verify_time_s: float = 1.0, finished: bool = False) -> RoundOutcome:
    """An outcome of drafts of 4 tokens."""
    drafter = np.array(drafter, np.int64)
    return RoundOutcome(
        rows=np.array(rows), drafter=drafter, drafted=np.where(drafter < 0, 0, 4), accepted=np.array(accepted),
        draft_time_s=np.array(draft_time_s, float), verify_time_s=verify_time_s,
        group_size=np.ones(len(drafter), np.int64), finished=np.full(len(drafter), finished),
    )  # fmt: skip
