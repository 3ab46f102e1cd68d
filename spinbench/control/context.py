"""What a selector sees before a round, and what it is told after one: arrays with one entry per request."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.drafting.drafter_groups import Groups


@dataclass(frozen=True, slots=True)
class RoundContext:
    """The requests of a micro-batch before a round. The same in both engines."""

    rows: IntArray
    """Which requests: rows of the run's table, kept for life and never used again."""
    category: IntArray
    """Code of the request's category, -1 = it has none."""
    num_rounds: IntArray
    """Rounds that each request has been through."""
    context_tokens: IntArray
    output_tokens: IntArray
    remaining_tokens: IntArray
    lookup_match_order: IntArray
    """Longest n-gram (0 to 3 tokens) at the end of the context that occurred before in it."""
    lookup_agreed: IntArray
    """Tokens that would be copied alike from that match and from the one before it, at most `MAX_AGREED`;
    `NOTHING_TO_COMPARE` where it occurred once or never. Looked up for selectors that learn by context only."""
    ngram_agreed: IntArray
    """Tokens that would be copied from that match and drafted by the run's n-gram table alike, at most `MAX_AGREED`;
    `NOTHING_TO_COMPARE` without both. Looked up likewise."""
    ngram_confidence: FloatArray
    """How sure the run's n-gram table is of its next token, 0 without one: known for nothing."""
    newest_token_ids: IntArray
    """Each context's last token, -1 where only lengths are known."""
    last_drafter: IntArray
    """Drafter of the request's last round, -1 = none."""
    last_drafted: IntArray
    last_accepted: IntArray
    last_confidence: FloatArray
    """Mean top-1 probability of the last draft; NaN where it was not measured."""
    held_kv_tokens: IntArray
    """[requests, drafters]: tokens whose KV each drafter holds; all of them for prompt lookup, which needs none."""
    num_waiting: int
    """Requests queued behind the running batch: the load."""
    num_in_flight: int = 0
    """Rounds of other micro-batches in flight beside the one that begins."""
    num_ready: int = 0
    """Further requests of the round, which nobody chooses for: their drafts were made ahead."""
    ready_tokens: int = 0
    """Tokens of those drafts together."""

    def __len__(self) -> int:
        """Requests in this round, those of `num_ready` not counted."""
        return len(self.rows)

    @property
    def missing_kv_tokens(self) -> IntArray:
        """[requests, drafters]: tokens to be prefilled before a drafter could draft; 0 for prompt lookup."""
        return self.context_tokens[:, None] - self.held_kv_tokens

    def only(self, kept: BoolArray | IntArray) -> "RoundContext":
        """The requests that are True in `kept`, bool [requests], or those at its places."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        mine: dict[str, Any] = {k: v if isinstance(v, int) else v[kept] for k, v in columns.items()}
        return RoundContext(**mine)


class RoundOutcome(NamedTuple):
    """The requests of a micro-batch after a round."""

    rows: IntArray
    drafter: IntArray
    """-1 = plain decoding."""
    groups: Callable[[], Groups]
    """The requests by drafter; the same ones as of the round before, if its requests had the same drafters."""
    by_lookup: BoolArray
    """The draft was copied, no model was asked."""
    drafted_ahead: BoolArray
    """The draft was made while the round before was verified, the drafter kept for it."""
    drafted: IntArray
    """Tokens on the longest drafted path: as many can be accepted."""
    drafted_nodes: IntArray
    """Tokens on all drafted paths: more than that where the draft was a tree."""
    draft_steps: IntArray
    """Tokens that a model was run for: those drafted and, where it was not sure of the next, that one."""
    accepted: IntArray
    lookup_hindsight: Callable[[], tuple[IntArray, BoolArray]]
    """Match order in front of each emitted token, [requests, width], and whether a copy from the latest match of 1, 2,
    3 tokens was that token, [requests, width, 3], whoever drafted; meaningless behind a request's accepted + 1. Asked
    only by those who learn from it."""
    ngram_hindsight: Callable[[], tuple[FloatArray, BoolArray]]
    """The n-gram table's confidence in front of each emitted token and whether it would have said that token, both
    [requests, width], as above; only where the run has such a table."""
    draft_time_s: FloatArray
    """Duration of the draft job that each request was part of, catch-up not counted; 0 without a drafter. Of a draft
    made ahead it was spent in the round before, also on a guess at that round's last token."""
    verify_time_s: float
    """Duration of the verify job."""
    group_size: Callable[[], IntArray]
    """Requests in each request's draft job."""
    finished: BoolArray
    """The request is over; its row does not come back."""
    num_in_flight: int = 0
    """Rounds of other micro-batches that were in flight as it began."""
    ahead_left_s: float = 0.0
    """Seconds that what was drafted ahead of it went on for behind the verification before, so that it had to wait."""
