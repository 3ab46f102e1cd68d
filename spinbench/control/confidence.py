"""When a drafter stops of itself: it is no longer sure of what it drafts."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.workload.acceptance.probability import STEPS_PER_HALVING

ConfidenceKind = Literal["product", "token"]


@dataclass(frozen=True, slots=True)
class ConfidenceStop:
    """A draft ends before the first token of which its drafter is less sure than `threshold`.

    Of a token its drafter is as sure as its likeliest token there is probable, whichever token was drawn: so the rule
    depends on the draft up to that token alone, and no sampler's law is touched. `product`: the probabilities of all
    tokens of the draft so far multiplied, an estimate of the chance that it is accepted up to there. `token`: the next
    token's alone, as Hugging Face's `assistant_confidence_threshold`.

    Probabilities count in the whole steps of `encode_probability`, a factor of 2^(1/16) each. Both engines add and
    compare these whole numbers, so that they come to the same end; a table stores no more than them.
    """

    threshold: float
    kind: ConfidenceKind = "product"

    @property
    def max_total(self) -> int:
        """The largest total of codes that is still sure enough."""
        return int(np.floor(-STEPS_PER_HALVING * np.log2(self.threshold)))

    def total(self, before: Any, code: Any) -> Any:
        """What decides about a draft's next token, from the total before it: integers, NumPy's or torch's alike."""
        return before + code if self.kind == "product" else code

    def goes_on(self, total: Any) -> Any:
        """Whether a token of this total is drafted, given that all before it were."""
        return total <= self.max_total

    def num_kept(self, codes: IntArray) -> IntArray:
        """Tokens of each draft before the first that is not sure enough, from codes [requests, K]."""
        total, kept = np.zeros(len(codes), np.int64), np.zeros(len(codes), np.int64)
        alive = np.ones(len(codes), np.bool_)
        for code in codes.T:
            total = self.total(total, code)
            alive = alive & self.goes_on(total)
            kept += alive
        return kept
