"""How far a run was from the optimum: share of the oracle's goodput, and regret in seconds and tokens."""

from dataclasses import dataclass

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.records.run_record import RunRecord
from spinbench.control.records.span_record import SpanColumns
from spinbench.errors import UserError

CLOCK_TOLERANCE_S = 1e-9


@dataclass(frozen=True, eq=False)
class Regret:
    """A run beside the oracle, request by request. NaN where a request had no round."""

    time_s: FloatArray
    """[rows]: what the run took to decode each request, see `decode_time_s`."""
    oracle_s: FloatArray
    """[rows]: what the oracle would have taken. For a batch only the sum is a bound."""
    num_tokens: IntArray
    """[rows]: tokens that came out of rounds."""

    @property
    def share_of_oracle(self) -> FloatArray:
        """Goodput as a share of the oracle's, [rows], 1 at best: the tokens are the same, so oracle time / time."""
        return _ratio(self.oracle_s, self.time_s)

    @property
    def regret_s(self) -> FloatArray:
        """Seconds lost, [rows]."""
        return self.time_s - self.oracle_s

    @property
    def regret_tokens(self) -> FloatArray:
        """Tokens that the oracle would have emitted beyond the run's in the run's time, [rows]."""
        return self.num_tokens * (_ratio(self.time_s, self.oracle_s) - 1)

    @property
    def total(self) -> "Regret":
        """All requests as one: rows of length 1."""
        time_s, oracle_s = self.time_s.sum(keepdims=True), self.oracle_s.sum(keepdims=True)
        return Regret(time_s, oracle_s, self.num_tokens.sum(keepdims=True))


def decode_time_s(record: RunRecord) -> FloatArray:
    """Seconds that a run spent on each request's rounds, in the order of `record.rounds.request_ids`.

    A round takes from the end of the job before it, so with the loop's own time, to the end of its verification; the
    requests of a batch share it equally. Their sum is all the time in which the run decoded; served one at a time, each
    request has just `finish_s - first_token_s`. Raises UserError for a run whose jobs overlapped, or whose rounds did:
    then no stretch of time belongs to one round.
    """
    rounds, spans = record.rounds, record.spans
    if not _one_after_another(spans):
        raise UserError(
            "jobs or rounds of this run overlapped, so its time cannot be divided among rounds and held against the "
            "oracle's; set pipeline=serial placement=shared"
        )
    index, first_span = np.unique(spans.round_index, return_index=True)
    # a prefill has no round, and one comes before all rounds
    begin_s = spans.end_s[np.maximum(first_span - 1, 0)]
    time_s = rounds.verify_end_s - begin_s[np.searchsorted(index, rounds.round_index)]
    of_request_s = np.zeros(len(rounds.request_ids))
    np.add.at(of_request_s, rounds.row, time_s / rounds.batch_size)
    return of_request_s


def _one_after_another(spans: SpanColumns) -> bool:
    """Whether no job began before the one before it ended, and no round before the one before it was verified.

    What is drafted ahead is for the round behind it.
    """
    jobs = bool((spans.start_s[1:] >= spans.end_s[:-1] - CLOCK_TOLERANCE_S).all())
    jobs = jobs and "draft_ahead" not in spans.kind
    of_rounds = spans.round_index[spans.round_index >= 0]
    return jobs and bool((np.diff(of_rounds) >= 0).all())


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    nothing = np.full(len(numerator), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)
