"""How likely a drafted token is to be accepted, by its source, its place in the draft and what is known beforehand."""

from collections.abc import Mapping

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.drafting.draft_source import DraftSources
from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.control.selector.survival_prior import (
    PRIOR_CHANCES_NGRAM,
    PRIOR_LOG_ODDS_COPY,
    PRIOR_LOG_ODDS_MODEL,
    SurvivalPrior,
)
from spinbench.workload.acceptance.agreement import NUM_AGREEMENTS, agreement

NUM_ORDERS = NgramIndex.MAX_ORDER + 1
STREAKS = np.array([1, 2, 4, 8, 16])
"""Where the classes of streaks begin, in tokens; the first class is a streak of none."""
CONFIDENCES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
"""Where the classes of the n-gram table's confidence begin."""
NUM_CONFIDENCES = len(CONFIDENCES) + 1
NUM_CELLS = NUM_ORDERS * (len(STREAKS) + 1)
MAX_CATEGORIES = 64
"""Categories beyond this share a weight with others."""
NUM_TOKEN_CLASSES = 4096
"""Newest tokens that are told apart, by their id modulo this."""


class SurvivalEstimate:
    """Bayesian logistic regression of "accepted, given that all before it were", learned online.

    The log-odds of the k-th token of a source are a sum of weights: of the source; of (source, match order, k); of
    (source, category); of (request, source); for a model, of the request; for k = 1, of the newest token (one weight
    for all models, one for each other kind of source); for a copy, of its cell = (match order by then, streak by then),
    a streak being tokens that copies would have got right without a miss, and of whether the match before the latest
    goes on with the same token; for a copy and the table, of whether the other one drafts the same token, and of what
    speaks for it (its confidence or cell); of how sure the n-gram table is of the next token, which tells how easy the
    text is here (for each kind of source; for the table's own drafts also by k). So a new request begins with what
    others showed (partial pooling), and a drafter that it never had with what its other drafters showed.

    The posterior is a normal law per weight, updated by one Newton step per observation with the doubt about all other
    weights integrated out (assumed density filtering, as Graepel et al. 2010 do for click prediction). Copies and
    the table are scored at every round, drafted or not, since control knows what they would have said.
    """

    def __init__(
        self, sources: DraftSources, num_requests: int, max_num_speculative_tokens: int, prior: SurvivalPrior
    ) -> None:
        self._sources = sources
        self._most = max(1, max_num_speculative_tokens)
        self._order = np.zeros(num_requests, np.int64)
        self._category = np.zeros(num_requests, np.int64)
        self._token = np.zeros(num_requests, np.int64)
        self._streak = np.zeros(num_requests, np.int64)
        self._confidence = np.zeros(num_requests, np.int64)
        self._agreed = np.zeros(num_requests, np.int64)
        self._ngram_agreed = np.zeros(num_requests, np.int64)
        count, memory, own_memory = len(sources), prior.memory_rounds, prior.memory_rounds / 10
        blocks = {  # weights, standard deviation, observations remembered
            "nothing": (1, 1e-6, np.inf),  # always 0: stands where a draft has no such weight
            "source": (count, prior.shared, memory),
            "place": (count * NUM_ORDERS * self._most, prior.place, memory),
            "cell": (NUM_CELLS, prior.shared, memory),
            "category": (count * MAX_CATEGORIES, prior.category, memory),
            "own": (num_requests * count, prior.own, own_memory),
            "own_of_models": (num_requests, prior.own, own_memory),
            "token": (3 * NUM_TOKEN_CLASSES, prior.token, memory),
            "confidence": (NUM_CONFIDENCES * self._most, prior.shared, memory),
            "confidence_for_others": (2 * NUM_CONFIDENCES, prior.place, memory),
            "agreement": (NUM_AGREEMENTS, prior.place, memory),
            "rivalry": (NUM_AGREEMENTS * (NUM_CONFIDENCES + NUM_CELLS), prior.place, memory),
        }
        sizes, deviations, memories = (np.array(column) for column in zip(*blocks.values(), strict=True))
        sizes = sizes.astype(np.int64)
        first = dict(zip(blocks, (np.cumsum(sizes) - sizes).tolist(), strict=True))
        self._mean = np.zeros(int(sizes.sum()))
        self._variance = np.repeat(np.square(deviations), sizes)
        # an observation of an even chance is worth 1/4
        self._least_variance = np.repeat(4 / memories, sizes)
        self._mean[first["source"] :][: sources.num_models] = PRIOR_LOG_ODDS_MODEL
        self._mean[first["cell"] :][:NUM_CELLS] = np.repeat(PRIOR_LOG_ODDS_COPY, len(STREAKS) + 1)
        own_confidence = np.full((self._most, NUM_CONFIDENCES), PRIOR_LOG_ODDS_MODEL)
        own_confidence[0] = np.log(np.divide(PRIOR_CHANCES_NGRAM, np.subtract(1, PRIOR_CHANCES_NGRAM)))
        self._mean[first["confidence"] :][: own_confidence.size] = own_confidence.reshape(-1)
        self._lay_out(first)

    def _lay_out(self, first: Mapping[str, int]) -> None:
        """Where the weights of a draft are, but for what depends on the request; `first` is where each block begins."""
        count, source, place = len(self._sources), np.arange(len(self._sources)), np.arange(self._most)
        is_model: BoolArray = source < self._sources.num_models
        nothing = np.zeros(count, np.int64)
        own_of_all = np.where(is_model, first["own_of_models"], 0)
        self._place = place
        self._is_model = is_model
        self._whole = np.stack(
            (first["source"] + source, first["category"] + source * MAX_CATEGORIES, first["own"] + source, own_of_all),
            1,
        )
        self._per_category = np.array([0, 1, 0, 0])
        self._per_row = np.stack((nothing, nothing, nothing + count, is_model.astype(np.int64)), 1)
        orders = np.arange(NUM_ORDERS)[:, None, None]
        is_copy = self._sources.copies & (source == count - 1)
        self._by_place = np.zeros((NUM_ORDERS, count, self._most, 6), np.int64)
        self._by_place[..., 0] = first["place"] + (source[:, None] * NUM_ORDERS + orders) * self._most + place
        self._by_place[:, :, 0, 1] = first["token"] + np.where(is_model, 0, np.where(is_copy, 1, 2)) * NUM_TOKEN_CLASSES
        if self._sources.ngrams:
            self._by_place[..., 3] = np.where(
                is_model | is_copy, first["confidence_for_others"] + is_copy * NUM_CONFIDENCES, first["confidence"]
            )[:, None]
            self._by_place[:, self._sources.num_models, :, 3] += place * NUM_CONFIDENCES
        self._first_cell = first["cell"]
        self._first_agreement, self._first_rivalry = first["agreement"], first["rivalry"]
        self._cell_of_order = np.minimum(orders[:, 0] + place, NgramIndex.MAX_ORDER) * (len(STREAKS) + 1)

    def begin(self, context: RoundContext) -> None:
        """Note what is known of the requests before their round."""
        self._order[context.rows] = np.minimum(context.lookup_match_order, self._sources.max_match_tokens)
        self._category[context.rows] = context.category % MAX_CATEGORIES
        self._agreed[context.rows] = context.lookup_agreed
        self._ngram_agreed[context.rows] = context.ngram_agreed
        self._token[context.rows] = context.newest_token_ids % NUM_TOKEN_CLASSES
        self._confidence[context.rows] = np.searchsorted(CONFIDENCES, context.ngram_confidence, side="right")

    def cells(self, rows: IntArray) -> IntArray:
        """Class of each place in a copy, below `NUM_CELLS`, int [requests, K]; the first is that of the context."""
        streak = np.searchsorted(STREAKS, self._streak[rows][:, None] + self._place, side="right")
        return self._cell_of_order[self._order[rows]] + streak

    def survival(self, rows: IntArray, optimism: float) -> FloatArray:
        """P(the first k tokens of a draft are all accepted), float [requests, sources, K].

        Each factor is taken `optimism` standard deviations of the source's weight above its mean, for models: one that
        nobody asked looks good until it was. Places and categories get none, or each would be tried out by itself;
        copies need none, since they are scored without being asked.
        """
        whole, by_place = self._weights(rows)
        log_odds = self._mean[whole].sum(2)[:, :, None] + self._mean[by_place].sum(3)
        own = self._variance[whole]
        variance = own.sum(2)[:, :, None] + self._variance[by_place].sum(3)
        if optimism:
            log_odds += (optimism * np.sqrt(own[:, :, 0]) * self._is_model)[:, :, None]
        # the mean of a logistic function under a normal law (MacKay 1992)
        chance = _logistic(log_odds / np.sqrt(1 + np.pi / 8 * variance))
        np.cumprod(chance, axis=2, out=chance)
        return chance

    def observe(self, outcome: RoundOutcome) -> None:
        """Take a round in: drafts of models as far as they were accepted, copies as far as text was emitted."""
        rows, sources, place = outcome.rows, self._sources, self._place
        seen = np.zeros((len(rows), len(sources), self._most), np.bool_)
        right = np.zeros_like(seen)
        asked = np.flatnonzero((outcome.drafted > 0) & ~outcome.by_lookup)
        if len(asked):
            source = sources.source_of_drafter[outcome.drafter[asked]]
            accepted = outcome.accepted[asked, None]
            # behind the end of a text nothing is accepted, however right it is
            known = np.where(outcome.finished[asked], outcome.accepted[asked], outcome.drafted[asked])[:, None]
            seen[asked, source] = place < np.minimum(accepted + 1, known)
            right[asked, source] = place < accepted
        whole, by_place = self._weights(rows)
        if sources.ngrams:
            _, right_of_table = outcome.ngram_hindsight()
            wrong = ~right_of_table | (np.arange(right_of_table.shape[1]) > outcome.accepted[:, None])
            run = np.where(wrong.any(1), wrong.argmax(1), wrong.shape[1])
            self._see_free(sources.num_models, run, outcome.accepted, seen, right)
        if sources.copies:
            run, streak = self._copies(outcome)
            self._see_free(len(sources) - 1, run, outcome.accepted, seen, right)
            seen[:, -1] &= self._order[rows, None] > 0
            self._streak[rows] = streak
        at, source, k = np.nonzero(seen)
        if len(at):
            self._update(np.concatenate((whole[at, source], by_place[at, source, k]), 1), right[at, source, k])

    def _see_free(self, source: int, run: IntArray, accepted: IntArray, seen: BoolArray, right: BoolArray) -> None:
        """Note what is known, whoever drafted, of a source that would have been right for `run` emitted tokens."""
        seen[:, source] = self._place < np.minimum(run + 1, accepted + 1)[:, None]
        right[:, source] = self._place < run[:, None]

    def _copies(self, outcome: RoundOutcome) -> tuple[IntArray, IntArray]:
        """Emitted tokens that a copy got right from the first one on, and requests' streaks by now, [requests] each.

        Token by token, each by the match in front of it, which a copy that runs on has got longer.
        """
        emitted = outcome.accepted + 1
        order, right_by_order = outcome.lookup_hindsight()
        order = np.minimum(order, self._sources.max_match_tokens)
        right = np.take_along_axis(right_by_order, np.maximum(order - 1, 0)[..., None], 2)[..., 0]
        places = np.arange(order.shape[1])
        wrong = ~(right & (order > 0)) & (places < emitted[:, None])
        any_wrong = wrong.any(1)
        last_wrong = order.shape[1] - 1 - wrong[:, ::-1].argmax(1)
        streak = np.where(any_wrong, emitted - 1 - last_wrong, self._streak[outcome.rows] + emitted)
        return np.where(any_wrong, wrong.argmax(1), emitted), streak

    def _update(self, index: IntArray, right: BoolArray) -> None:
        """One step for all observations; `index` [observations, weights] says which weights each is a sum of."""
        variance = self._variance[index]
        chance = _logistic(self._mean[index].sum(1, keepdims=True))
        information = chance * (1 - chance)
        # what an observation tells of one weight once the doubt about the others is integrated out
        share = 1 / (1 + information * (variance.sum(1, keepdims=True) - variance))
        touched, inverse = np.unique(index, return_inverse=True)
        inverse = inverse.reshape(-1)
        told = np.bincount(inverse, (information * share).reshape(-1))
        before = self._variance[touched]
        after = np.maximum(1 / (1 / before + told), np.minimum(before, self._least_variance[touched]))
        self._variance[touched] = after
        self._mean[touched] += after * np.bincount(inverse, (share * (right[:, None] - chance)).reshape(-1))

    def _weights(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Weights of whole drafts, [requests, sources, 4], and of places in them, [requests, sources, K, 6]."""
        category = self._category[rows][:, None, None] * self._per_category
        whole = self._whole + rows[:, None, None] * self._per_row + category
        by_place = self._by_place[self._order[rows]]
        by_place[:, :, 0, 1] += self._token[rows][:, None]
        if self._sources.ngrams:
            by_place[..., 3] += self._confidence[rows][:, None, None]
        if self._sources.copies:
            cells = self.cells(rows)
            by_place[:, -1, :, 2] = self._first_cell + cells
            by_place[:, -1, :, 4] = self._first_agreement + agreement(self._agreed[rows], self._most)
            if self._sources.ngrams:
                rival = self._first_rivalry + agreement(self._ngram_agreed[rows], self._most)
                by_place[:, -1, :, 5] = rival + NUM_AGREEMENTS * self._confidence[rows][:, None]
                by_place[:, -2, :, 5] = rival + NUM_AGREEMENTS * (NUM_CONFIDENCES + cells)
        return whole, by_place


def _logistic(log_odds: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-log_odds))
