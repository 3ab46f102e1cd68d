"""Contexts and outcomes of rounds, for tests of what decides by them."""

from collections.abc import Sequence

import numpy as np

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.drafting.drafter_groups import DrafterGroups


def context(num_requests: int, num_rounds: int = 0, num_drafters: int = 3, rows: Sequence[int] | None = None):
    """A context of requests that are all alike."""

    def same(value: int) -> np.ndarray:
        return np.full(num_requests, value, np.int64)

    return RoundContext(
        rows=np.arange(num_requests) if rows is None else np.array(rows),
        category=same(-1), num_rounds=same(num_rounds), context_tokens=same(10), output_tokens=same(1),
        remaining_tokens=same(9), lookup_match_order=same(0), lookup_agreed=same(255), ngram_agreed=same(255), newest_token_ids=same(-1), ngram_confidence=np.zeros(num_requests), last_drafter=same(-1), last_drafted=same(0),
        last_accepted=same(0), last_confidence=np.full(num_requests, np.nan),
        held_kv_tokens=np.full((num_requests, num_drafters), 10), num_waiting=0,
    )  # fmt: skip


def outcome(rows, drafter, accepted, draft_time_s, verify_time_s: float = 1.0, finished: bool = False) -> RoundOutcome:
    """An outcome of drafts of 4 tokens."""
    drafter = np.array(drafter, np.int64)
    return RoundOutcome(
        rows=np.array(rows), drafter=drafter, groups=lambda: DrafterGroups(max(drafter, default=0) + 1).of(drafter), by_lookup=np.zeros(len(drafter), np.bool_), drafted_ahead=np.zeros(len(drafter), np.bool_),
        drafted=np.where(drafter < 0, 0, 4), drafted_nodes=np.where(drafter < 0, 0, 4),
        draft_steps=np.where(drafter < 0, 0, 4), accepted=np.array(accepted),
        lookup_hindsight=lambda: (np.zeros((len(drafter), 5), np.int64), np.zeros((len(drafter), 5, 3), np.bool_)),
        ngram_hindsight=lambda: (np.zeros((len(drafter), 5)), np.zeros((len(drafter), 5), np.bool_)),
        draft_time_s=np.array(draft_time_s, float), verify_time_s=verify_time_s,
        group_size=lambda: np.ones(len(drafter), np.int64), finished=np.full(len(drafter), finished),
    )  # fmt: skip


def with_copies(done: RoundOutcome, order: Sequence[int], run: Sequence[int]) -> RoundOutcome:
    """The outcome where `run` tokens of each request would have been copied right from a match of `order` tokens."""
    right = np.arange(5) < np.array(run)[:, None]
    orders = np.repeat(np.array(order)[:, None], 5, 1)
    return done._replace(lookup_hindsight=lambda: (orders, np.repeat(right[..., None], 3, 2)))
