"""What the runtime asks of a drafter."""

from typing import Protocol

import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.jobs.job import DraftJob, TokenSpans
from spinbench.control.text import LiveText
from spinbench.runtime.draft import Drafts
from spinbench.runtime.kv.slot_table import Slots
from spinbench.runtime.token_tree import SlotMoves


class Drafter(Protocol):
    """Proposes tokens for a group of requests."""

    @property
    def forward_s(self) -> float:
        """Host time spent inside a model's forward so far."""
        ...

    def catch_up(self, spans: TokenSpans, slots: Slots, text: LiveText) -> None:
        """Fill in the KV of tokens that this drafter has not seen, in `slots`, which the requests may have left."""
        ...

    def score(self, spans: TokenSpans, num_scored: IntArray, text: LiveText) -> BoolArray:
        """Catch up, and say whether it would have said what stands behind each span's last `num_scored` tokens.

        Bool [requests, width], False behind a request's `num_scored`.
        """
        ...

    def move_kv(self, moves: SlotMoves) -> None:
        """Move the KV of tokens that it drafted off the first branch, and that were accepted."""
        ...

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """At most `num_speculative_tokens` tokens per request, or trees of that depth."""
        ...

    def go_on(self, job: DraftJob, newest: torch.Tensor, slots: Slots, text: LiveText) -> Drafts:
        """Chains behind drafts of its own that are being verified.

        `newest` are their last tokens, int64 [requests]; `slots` as for a catch-up.
        """
        ...
