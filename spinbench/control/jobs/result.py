"""What comes of jobs: counts and tokens in arrays, or that the device had too little memory."""

from dataclasses import dataclass

from spinbench.control.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class PrefillResult:
    """One token per request, int [requests]."""

    token_ids: IntArray


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """Whether a drafter would have said the tokens that stand in the text."""

    right: BoolArray
    """[requests, width], one for each scored token in order; behind a request's `num_scored` it has no meaning."""


@dataclass(frozen=True, slots=True)
class DraftResult:
    """Per request, tokens really drafted (0 to K) and, if asked for, the mean top-1 probability."""

    num_drafted: IntArray
    """Tokens of all paths. Where several drafters draft for a request, those that none before had drafted."""
    confidence: FloatArray | None = None
    """Over the drafted tokens and the one that ended the draft, if one did."""
    num_steps: IntArray | None = None
    """Tokens that the model was run for, drafted ones and others, 0 for a copy. None = for K."""
    guesses: IntArray | None = None
    """Of drafts made ahead, the token that each has in the place of the bonus token."""


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Per request, the accepted drafted tokens followed by the bonus token."""

    token_ids: IntArray
    """[requests, width], what lies behind a request's `num_emitted` has no meaning."""
    num_emitted: IntArray
    """accepted + 1"""
    accepted_of: IntArray | None = None
    """[requests, drafters]: how many of the accepted tokens each drafter had drafted, which are the first ones; None
    where no request had more than one drafter."""


@dataclass(frozen=True, slots=True)
class DidNotFit:
    """The device had too little memory for the job. Nothing came of it; what it wrote into KV pools nobody counts."""


Result = PrefillResult | ScoreResult | DraftResult | VerifyResult | DidNotFit | None
