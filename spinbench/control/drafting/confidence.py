"""When a drafter stops of itself: it is no longer sure of what it drafts."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.workload.acceptance.probability import STEPS_PER_HALVING, Codes

ConfidenceKind = Literal["product", "token"]


@dataclass(frozen=True, slots=True)
class ConfidenceStop:
    """A draft ends before the first token of which its drafter is less sure than `threshold`.

    Of a token its drafter is as sure as its likeliest token there is probable, whichever token was drawn: so the rule
    depends on the draft up to that token alone, and no sampler's law is touched. `product`: the probabilities of all
    tokens of the draft so far multiplied, an estimate of the chance that it is accepted up to there. `token`: the next
    token's alone, as Hugging Face's `assistant_confidence_threshold`.

    Probabilities count in the whole steps of `encode_probability`, a factor of 2^(1/16) each: a table stores no more
    than them, and so both engines compare the same whole numbers.
    """

    threshold: float
    kind: ConfidenceKind = "product"

    @property
    def max_total(self) -> int:
        """The largest total of codes that is still sure enough."""
        return int(np.floor(-STEPS_PER_HALVING * np.log2(self.threshold)))

    def num_kept(self, codes: Codes) -> IntArray:
        """Tokens of each draft before the first that is not sure enough, int [requests].

        `codes` [requests, K] are those of its tokens' probabilities; behind a draft's end they have no meaning.
        """
        total = np.cumsum(codes, 1, dtype=np.int64) if self.kind == "product" else codes
        return np.logical_and.accumulate(total <= self.max_total, axis=1).sum(1)


def ends_while_drafting(device_type: str) -> bool:
    """Whether a draft that its drafter ends is run no further, on a device of torch's type `cpu` or `cuda`.

    To know of the end the host has to see what the device has computed. A CPU has computed it by then. For a GPU the
    host would wait, and then launch the next token's kernels on an idle device, token by token. So there all K are run,
    the host looks once, behind the last, where it waits for the job's end anyway, and only verification is spared.
    """
    return device_type == "cpu"
