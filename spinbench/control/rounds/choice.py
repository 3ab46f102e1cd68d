"""Who drafts how much for requests whose rounds begin: what they have already, or what is chosen for them."""

from dataclasses import dataclass, replace

import numpy as np

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.context import RoundContext
from spinbench.control.draft_length.protocol import DraftLength
from spinbench.control.drafting.ready_drafts import ReadyDrafts
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.protocol import Branches, LearnsByContext, Selector


@dataclass(frozen=True, slots=True)
class RoundChoice:
    """Each with an entry per request."""

    context: RoundContext
    drafter: IntArray
    """-1 = plain decoding."""
    num_speculative_tokens: IntArray
    beside: tuple[IntArray, IntArray] | None = None
    """Second drafters, -1 = none, and the tokens of their drafts; None = nobody has one."""
    ready: ReadyDrafts | None = None
    """Drafts that were made ahead."""

    def __len__(self) -> int:
        """Requests."""
        return len(self.context)

    @property
    def depth(self) -> IntArray:
        """Tokens on the longest path of each draft."""
        lengths = self.num_speculative_tokens
        return lengths if self.beside is None else np.maximum(lengths, self.beside[1])

    def only(self, places: IntArray | BoolArray) -> "RoundChoice":
        """That of some of the requests."""
        beside = self.beside
        if beside is not None:
            beside = (beside[0][places], beside[1][places]) if beside[1][places].any() else None
        return RoundChoice(
            self.context.only(places),
            self.drafter[places],
            self.num_speculative_tokens[places],
            beside,
            None if self.ready is None else self.ready.only(places),
        )


class RoundChooser:
    """Asks the selector and the draft-length policy."""

    def __init__(self, selector: Selector, draft_length: DraftLength, branching: Branches | None = None) -> None:
        """`branching`: the selector, where a request may have a second drafter."""
        self._selector = selector
        self._draft_length = draft_length
        # asked once: to tell a protocol takes as long as a decision
        self._learning = selector if isinstance(selector, LearnsByContext) else None
        self._branching = branching

    def choose(self, context: RoundContext, ready: ReadyDrafts | None = None) -> RoundChoice:
        """For requests of which some may have a draft already: they keep it."""
        drafter, lengths = self._first(context, ready)
        # the bonus token is always emitted, so more than remaining - 1 drafted tokens could never be used
        lengths = np.minimum(lengths, context.remaining_tokens - 1)
        return RoundChoice(context, drafter, lengths, self._beside(context), ready)

    def _first(self, context: RoundContext, ready: ReadyDrafts | None) -> tuple[IntArray, IntArray]:
        """Drafter and K of each request."""
        selector, draft_length = self._selector, self._draft_length
        if ready is None:
            drafters = selector.choose(context)
            return drafters, draft_length.lengths(context, drafters)
        drafters, lengths = np.full(len(context), NO_DRAFTER), np.zeros(len(context), np.int64)
        has = ready.is_there
        drafters[has], lengths[has] = ready.drafter[has], ready.num_tokens[has]
        if self._learning is not None and has.any():
            self._learning.begin(context.only(has))
        if not has.all():
            num_ready, ready_tokens = int(np.count_nonzero(has)), int(ready.num_tokens[has].sum())
            others = replace(context.only(~has), num_ready=num_ready, ready_tokens=ready_tokens)
            drafters[~has] = selector.choose(others)
            lengths[~has] = draft_length.lengths(others, drafters[~has])
        return drafters, lengths

    def _beside(self, context: RoundContext) -> tuple[IntArray, IntArray] | None:
        """Second drafters of requests that were chosen for, and their K; None if there are none."""
        if self._branching is None:
            return None
        drafter, lengths = self._branching.beside(context)
        lengths = np.minimum(lengths, context.remaining_tokens - 1)
        return (np.where(lengths > 0, drafter, NO_DRAFTER), lengths) if lengths.any() else None
