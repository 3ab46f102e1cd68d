"""What becomes of every possible draft, per request of a run: read by the simulator and the oracle."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from spinbench.workload.acceptance.accepted_runs import MAX_RUN, capped_remaining
from spinbench.workload.acceptance.agreement import NOTHING_TO_COMPARE
from spinbench.workload.acceptance.drafter_name import is_ngram, model_of, models_of
from spinbench.workload.acceptance.lookup import MAX_ORDER
from spinbench.workload.acceptance.probability import decode_probability

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
NO_TOKEN = -1
"""Stands for tokens that are not known or lie behind a text's end; no end token has this number."""


@dataclass(frozen=True, eq=False)
class AcceptanceStreams:
    """The requests of a run in order, row by row, with their output tokens as positions behind each other.

    In all methods `rows` are requests and `num_output_tokens` the tokens that each has emitted, int [n], at least 0 and
    below the length of its text; drafters are places in `drafters`.
    """

    drafters: tuple[str, ...]
    """The run's drafters. `NAME+prompt_lookup` and `NAME` share a row of `run`."""
    offsets: Ints
    """[rows + 1]: where each request's positions begin."""
    run: npt.NDArray[np.uint8]
    """[models, positions], a row for each of `models_of(drafters)`: tokens accepted without a gap from a position on,
    at most 255 and never beyond the text."""
    match_order: npt.NDArray[np.uint8]
    """[positions]: longest n-gram (0 to 3 tokens) that prompt lookup finds there."""
    lookup_run: npt.NDArray[np.uint8]
    """[3, positions]: as `run`, for copies from the latest match of exactly 1, 2, 3 tokens."""
    stopped: Bools
    """[rows]: whether the text ends with an end token."""
    token_ids: npt.NDArray[np.int32] | None = None
    """[positions]; None where only lengths are known."""
    ngram_confidence: npt.NDArray[np.uint8] | None = None
    """[positions] coded confidence of the run's n-gram table; None without one, and where it is not known."""
    lookup_agreed: npt.NDArray[np.uint8] | None = None
    """[positions] tokens that are copied alike from the latest match and from the one before it, see `LookupColumns`;
    None where that is not known."""
    ngram_agreed: npt.NDArray[np.uint8] | None = None
    """[positions] tokens that the run's n-gram table and a copy from the longest match would draft alike, see
    `DrafterColumns`; None without a table, and where that is not known."""
    rank: npt.NDArray[np.uint8] | None = None
    """As the rows of `run`: tokens that the model scores above the text's, 255 = too many; None where not known."""
    confidence: npt.NDArray[np.uint8] | None = None
    """[K, models, positions]: top-1 probabilities of the first K tokens of a model's own draft, right or not, coded by
    `encode_probability`; None where nobody knows them."""

    @property
    def num_rollout_tokens(self) -> int:
        """K of `confidence`: tokens of a draft that can be judged by its drafter's confidence."""
        return 0 if self.confidence is None else len(self.confidence)

    @cached_property
    def num_tokens(self) -> Ints:
        """Length of each request's text, int [rows]."""
        return np.diff(self.offsets)

    def match_order_at(self, rows: Ints, num_output_tokens: Ints) -> Ints:
        """Order of the prompt-lookup match, 0 to 3."""
        return self.match_order[self.offsets[rows] + num_output_tokens].astype(np.int64)

    def lookup_agreed_at(self, rows: Ints, num_output_tokens: Ints) -> Ints:
        """Tokens that are copied alike from two matches, [n]; `NOTHING_TO_COMPARE` without two, or where not known."""
        if self.lookup_agreed is None:
            return np.full(len(rows), NOTHING_TO_COMPARE)
        return self.lookup_agreed[self.offsets[rows] + num_output_tokens].astype(np.int64)

    def ngram_agreed_at(self, rows: Ints, num_output_tokens: Ints) -> Ints:
        """Tokens that the n-gram table and a copy would draft alike, [n]; `NOTHING_TO_COMPARE` without two drafts, or
        where not known."""
        if self.ngram_agreed is None:
            return np.full(len(rows), NOTHING_TO_COMPARE)
        return self.ngram_agreed[self.offsets[rows] + num_output_tokens].astype(np.int64)

    def lookup_finds(
        self, rows: Ints, num_output_tokens: Ints, max_order: int = MAX_ORDER, min_order: int = 1
    ) -> Bools:
        """Whether a lookup of `min_order` to `max_order` tokens drafts anything."""
        return self._order(self.offsets[rows] + num_output_tokens, max_order, min_order) > 0

    def accepted_run(
        self,
        rows: Ints,
        num_output_tokens: Ints,
        drafter: int,
        by_lookup: Bools,
        max_order: int = MAX_ORDER,
        min_order: int = 1,
    ) -> Ints:
        """Tokens accepted of a draft that is long enough; with K drafted tokens, min(K, this) are.

        `by_lookup` says which requests copy instead of asking the drafter's model. The text's last token is always the
        target's own, never an accepted one: a draft that reaches it is cut there, as the serving loop does.
        """
        at = self.offsets[rows] + num_output_tokens
        model = self._model_row[drafter]
        runs = self._flat_run[at + model] if model >= 0 else np.zeros(len(rows), np.uint8)
        if np.count_nonzero(by_lookup):
            order = self._order(at, max_order, min_order)
            runs = np.where(by_lookup, self._flat_lookup_run[at + order * len(self.match_order)], runs)
        return np.minimum(runs, self._ends[rows] - at - 1)

    def emitted_behind_models(self, rows: Ints, num_output_tokens: Ints, drafters: Ints) -> npt.NDArray[np.uint8]:
        """Tokens that a draft by a model which is long enough brings: the accepted ones, as `accepted_run` has them,
        and the target's own. `drafters` int [n] says whose each request's draft is; at most 255."""
        return self._flat_emitted[self.offsets[rows] + num_output_tokens + self._model_rows[drafters]]

    def accepted_depth(self, rows: Ints, num_output_tokens: Ints, drafter: int, branching: Sequence[int]) -> Ints:
        """Tokens accepted of a tree in which the drafter's `branching[j]` likeliest tokens follow each node of depth j.

        A token is accepted at depth j + 1 iff its rank is below `branching[j]` and all before it were accepted. Cut at
        the text's last token as `accepted_run`. Exact but for scores that tie at the last child, which bfloat16 has now
        and then: a rank says how many are higher, not which of those that tie a drafter names. Raises ValueError where
        ranks are not known.
        """
        if self.rank is None:
            raise ValueError("these streams have no ranks")
        places = self._places(rows, num_output_tokens, len(branching))
        ranks = self.rank[self.row_of_model(drafter)][places]
        depth = np.logical_and.accumulate(ranks < np.array(branching), axis=1).sum(1)
        return np.minimum(depth, self.offsets[rows + 1] - self.offsets[rows] - num_output_tokens - 1)

    def right_at(self, rows: Ints, num_output_tokens: Ints, width: int, drafter: int) -> Bools:
        """Whether a drafter's model would have said each of `width` tokens from there on, [n, width].

        What lies behind a text's end has no meaning. Of recorded texts, a draft's accepted tokens are the first of
        these that are right; a synthetic law whose rates differ by draft position knows no such thing, and there each
        token is judged as the first of a draft.
        """
        return self._flat_run[self._places(rows, num_output_tokens, width) + self._model_row[drafter]] > 0

    def confidence_at(self, rows: Ints, num_output_tokens: Ints, width: int, drafter: int) -> Ints:
        """Codes of the first `width` tokens that a drafter's model would draft, [n, width]; `width` is at most K."""
        if self.confidence is None or width > len(self.confidence):
            raise ValueError(f"confidence is known of {self.num_rollout_tokens} tokens of a draft, not of {width}")
        at = self.offsets[rows] + num_output_tokens
        return self.confidence[:width, self.row_of_model(drafter), at].T.astype(np.int64)

    def lookup_at(self, rows: Ints, num_output_tokens: Ints, width: int) -> tuple[Ints, Bools]:
        """Order of the match in front of each of `width` tokens, [n, width], and whether a copy from the latest match
        of exactly 1, 2, 3 tokens is that token, [n, width, 3]. What lies behind a text's end has no meaning."""
        places = self._places(rows, num_output_tokens, width)
        return self.match_order[places].astype(np.int64), np.moveaxis(self.lookup_run[:, places] > 0, 0, -1)

    def ngram_at(self, rows: Ints, num_output_tokens: Ints, width: int) -> tuple[npt.NDArray[np.float64], Bools]:
        """Confidence of the run's n-gram table in front of each of `width` tokens, and whether it would have said that
        token, [n, width] each; 0 and False where that is not known. What lies behind a text's end has no meaning."""
        drafter = next((place for place, name in enumerate(self.drafters) if is_ngram(name)), None)
        shape = len(rows), width
        if drafter is None or self.ngram_confidence is None:
            return np.zeros(shape), np.zeros(shape, np.bool_)
        confidence = decode_probability(self.ngram_confidence[self._places(rows, num_output_tokens, width)])
        return confidence, self.right_at(rows, num_output_tokens, width, drafter)

    def _places(self, rows: Ints, num_output_tokens: Ints, width: int) -> Ints:
        """Positions of `width` tokens of each text, [n, width], kept within the columns."""
        places = (self.offsets[rows] + num_output_tokens)[:, None] + np.arange(width)
        return np.minimum(places, len(self.match_order) - 1)

    def token_ids_at(self, rows: Ints, num_output_tokens: Ints, width: int) -> Ints:
        """The next `width` tokens of each text, int [n, width]; -1 behind its end and where no text is known."""
        if self.token_ids is None:
            unknown = np.empty((len(rows), width), np.int64)
            unknown.fill(NO_TOKEN)
            return unknown
        places = num_output_tokens[:, None] + np.arange(width)
        inside = places < self.num_tokens[rows][:, None]
        at = np.where(inside, self.offsets[rows][:, None] + places, 0)
        return np.where(inside, self.token_ids[at], NO_TOKEN).astype(np.int64)

    def next_token_ids(self, rows: Ints, num_output_tokens: Ints, counts: Ints) -> Ints:
        """The same of the next `counts` tokens of each text, at most `MAX_RUN`, and of so many more that all have as
        many; not to be changed."""
        if self.token_ids is None:
            return self._unknown_token_ids[: len(rows)]
        return self.token_ids_at(rows, num_output_tokens, int(np.maximum.reduce(counts)))

    def row_of_model(self, drafter: int) -> int:
        """Row of `run` that a drafter's model has, -1 for prompt lookup."""
        offset = self._model_row[drafter]
        return -1 if offset < 0 else offset // max(1, len(self.match_order))

    def _order(self, at: Ints, max_order: int, min_order: int) -> Ints:
        """Order of the match that a draft copies from: the longest allowed one, 0 = none.

        Where n tokens match, every shorter suffix of them does.
        """
        order = self.match_order[at].astype(np.int64)
        if max_order < MAX_ORDER:
            order = np.minimum(order, max_order)
        return np.where(order >= min_order, order, 0) if min_order > 1 else order

    @cached_property
    def _model_row(self) -> Sequence[int]:
        """Per drafter, where its model's row begins in `_flat_run`, -1 for prompt lookup."""
        models = models_of(self.drafters)
        names = [model_of(name) for name in self.drafters]
        return [-1 if name is None else models.index(name) * len(self.match_order) for name in names]

    @cached_property
    def _model_rows(self) -> Ints:
        """As `_model_row`, int [drafters]."""
        return np.array(self._model_row, np.int64)

    @cached_property
    def _ends(self) -> Ints:
        """[rows]: where each request's positions end."""
        return self.offsets[1:]

    @cached_property
    def _unknown_token_ids(self) -> Ints:
        """[rows, MAX_RUN], of no size in memory."""
        return np.broadcast_to(np.int64(NO_TOKEN), (len(self.num_tokens), MAX_RUN))

    @cached_property
    def _flat_emitted(self) -> npt.NDArray[np.uint8]:
        """Where `_flat_run` has the run from a position on, one token more than it, as far as the text goes."""
        return np.minimum(np.minimum(self.run, MAX_RUN - 1) + np.uint8(1), capped_remaining(self.offsets)).reshape(-1)

    @cached_property
    def _flat_run(self) -> npt.NDArray[np.uint8]:
        return np.ascontiguousarray(self.run).reshape(-1)

    @cached_property
    def _flat_lookup_run(self) -> npt.NDArray[np.uint8]:
        """Runs by order of the match, those of order 0 in front: none."""
        return np.concatenate((np.zeros_like(self.match_order), self.lookup_run.reshape(-1)))
