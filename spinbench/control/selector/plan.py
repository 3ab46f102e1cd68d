"""One choice for a whole batch: who drafts for whom, and how many tokens, so that the round earns most."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.costs.round_prices import RoundPrices
from spinbench.control.drafting.draft_source import NO_SOURCE
from spinbench.control.selector.draft_terms import DraftTerms

MAX_MODELS = 3
"""Most models that draft in one round."""
OUT_OF_REACH = -1e9
"""Worth of tokens behind a draft's end."""


class Beside(NamedTuple):
    """Second drafts of requests whose sources part at the first token, int [requests] each."""

    source: IntArray
    """-1 = none."""
    num_speculative_tokens: IntArray


class Plan(NamedTuple):
    """What is chosen."""

    source: IntArray
    """[requests], -1 = plain decoding."""
    num_speculative_tokens: IntArray
    value: float
    """Accepted tokens expected, less what the time of the round is worth, in tokens."""
    drafting_s: float
    verify_s: float
    """Of the round, in seconds; where nothing overlaps, not counting what each request adds to them."""
    beside: Beside | None = None


@dataclass(frozen=True, slots=True)
class BatchChoice:
    """The search for one round. Time is worth `tokens_per_s`: what the run earns in it elsewhere.

    Largest is sum over requests of P(first 1, 2, .. K tokens accepted) - tokens_per_s x (time of the round). With time
    priced at the run's goodput this is the step of Dinkelbach's method for the largest ratio tokens / time, and the
    average-reward optimum: a lucky round may go on for longer than its own goodput says, an unlucky one stops earlier.
    """

    survival: FloatArray
    """[requests, sources, K], 0 where a source cannot draft."""
    prices: RoundPrices
    tokens_per_s: float
    num_models: int
    missing_share: FloatArray
    """[requests]: part of a catch-up that this round has to earn back."""
    guesses: FloatArray | None = None
    """[requests, sources, K]: P(a draft of k tokens is kept, and what was drafted ahead behind it is the next one); 0
    where nothing is drafted ahead."""

    def best(self, parting: BoolArray | None = None) -> Plan:
        """The best plan found: models are added one by one while they earn what their steps cost.

        `parting` [requests] are those whose last two sources, the n-gram table and copies, name different first tokens:
        both may then be drafted, as branches of a tree, of which one at most is right.
        """
        terms = DraftTerms.of(self.survival, self.prices, self.tokens_per_s, self.missing_share, self.guesses)
        net = None
        chosen: tuple[int, ...] = ()
        depths = np.full(self.survival.shape[1], self.survival.shape[2])
        best = self._exact(terms, chosen, depths)
        while len(chosen) < min(MAX_MODELS, self.num_models):
            if net is None:
                net = self._by_depth(terms.paid)
            model, depth, promise = self._one_more(net, chosen, best)
            if promise <= 0:
                break
            depths[model] = depth
            plan = self._exact(terms, (*chosen, model), depths)
            if plan.value <= best.value:
                break
            best, chosen = plan, (*chosen, model)
        if parting is None or not parting.any():
            return best
        branched = self._branched(terms, best, parting)
        return branched if branched.value > best.value else best

    def _by_depth(self, total: FloatArray) -> FloatArray:
        """Worth of the best draft of at most k tokens at different prices of a row, [prices, requests, sources, K]."""
        slopes_s = self.prices.row_slopes_s
        if self.prices.schedule.hides_drafting:
            slopes_s = np.append(0.0, slopes_s)
        row_prices = self.tokens_per_s * slopes_s[:, None, None, None]
        net = total - row_prices * np.arange(1, total.shape[2] + 1)
        np.maximum(net, 0, out=net)
        return np.maximum.accumulate(net, axis=3, out=net)

    def _one_more(self, net: FloatArray, chosen: tuple[int, ...], plan: Plan) -> tuple[int, int, float]:
        """The further model and its number of steps that promise most, and what they promise, in tokens.

        `plan` is the best one with those that were chosen so far.

        By the Lagrangian bound: at a price per row each request decides alone, and what all gain together, less the
        fixed cost of the model's steps, is largest for the right price.
        """
        draft, most, models = self.prices.draft, net.shape[3], self.num_models
        free = [*chosen, *range(models, net.shape[2])]
        base = net[:, :, free, -1].max(2, initial=0.0)
        extra = np.maximum(net[:, :, :models] - base[:, :, None, None], 0).sum(1).max(0)  # [models, K]
        steps = np.arange(1, most + 1)
        model_s = draft.lane_s(np.s_[:models, None], steps)
        schedule = self.prices.schedule
        if not schedule.is_sum:
            if self.guesses is not None:
                model_s = (1 - self.guesses[:, :models].max(0)) * model_s
            with_s = schedule.round_s(schedule.together_s(plan.drafting_s, model_s), plan.verify_s)
            model_s = with_s - schedule.round_s(plan.drafting_s, plan.verify_s)
        promise = extra - self.tokens_per_s * model_s
        promise[list(chosen)] = -np.inf
        place = int(promise.argmax())
        return place // most, place % most + 1, float(promise.flat[place])

    def _exact(self, terms: DraftTerms, chosen: tuple[int, ...], depths: IntArray) -> Plan:
        """The best plan with these models at most; every number of drafted rows is tried at its true cost."""
        count, num_sources, most = self.survival.shape
        usable = np.array([*chosen, *range(self.num_models, num_sources)], np.int64)
        if not len(usable):
            value = -self.tokens_per_s * float(self.prices.verify_s[0])
            return Plan(
                np.full(count, NO_SOURCE), np.zeros(count, np.int64), value, 0.0, float(self.prices.verify_s[0])
            )
        if not chosen and len(usable) == 1 and self.prices.schedule.is_sum:
            return self._along(terms.ranks[0][0][:, usable[0]], np.full(count, usable[0]), most, terms)
        deepest = int(depths[usable].max())
        steps = np.arange(1, deepest + 1)
        plans = []
        for rank, slopes_s in terms.ranks:
            own = np.where(steps <= depths[usable][:, None], rank[:, usable, :deepest], OUT_OF_REACH)
            for slope_s in dict.fromkeys(slopes_s[[0, -1]].tolist()):
                place = (own - self.tokens_per_s * slope_s * steps).max(2).argmax(1)
                plans.append(self._along(own[np.arange(count), place], usable[place], deepest, terms))
        return max(plans, key=lambda plan: plan.value)

    def _branched(self, terms: DraftTerms, plan: Plan, parting: BoolArray) -> Plan:
        """The best plan with the sources of this one and, where a request's sources part, the other one beside."""
        count, num_sources, most = self.survival.shape
        rank, places, steps = terms.ranks[0][0], np.arange(count), np.arange(1, most + 1)
        free = num_sources - 2 + rank[:, -2:, 0].argmax(1)
        source = np.where(plan.source == NO_SOURCE, free, plan.source)
        by_model = source < self.num_models
        worth = rank[places, source]
        worth = np.where(by_model[:, None] & (steps > plan.num_speculative_tokens[:, None]), OUT_OF_REACH, worth)
        other = np.where(by_model, free, 2 * num_sources - 3 - source)
        # what a request pays for having any draft it pays for its first one
        beside = rank[places, other] + self.tokens_per_s * self.prices.drafting_s
        beside = np.where((parting & ~by_model)[:, None], beside, OUT_OF_REACH)
        return self._along(np.concatenate((worth, beside)), np.concatenate((source, other)), most, terms)

    def _along(self, worth: FloatArray, source: IntArray, most: int, terms: DraftTerms) -> Plan:
        """The best plan with these sources; `worth` [requests, K] of drafts of each length, or [2 x requests, K] with
        second drafts behind the first ones.

        Tokens are taken by falling gain, so that every number of rows is filled with the best ones.
        """
        count, num_requests = len(worth), len(self.survival)
        request = np.arange(count) % num_requests
        steps = np.arange(1, most + 1)
        # a first token that pays only together with those behind it: they come as one, at their mean
        mean = worth / steps
        together = mean.argmax(1)
        gain = worth.copy()
        gain[:, 1:] -= worth[:, :-1]
        key = np.where(steps <= together[:, None] + 1, mean[np.arange(count), together][:, None], gain)
        key = np.minimum.accumulate(key, axis=1)
        # a second draft never without a first
        key[num_requests:] = np.minimum(key[num_requests:], key[: count - num_requests, :1])
        order = np.argsort(-key, axis=None, kind="stable")
        order = order[: len(self.prices.verify_s) - 1]
        spent = terms.spent(order, source, most)
        if not self.prices.schedule.is_sum:
            gain = np.where(worth > OUT_OF_REACH / 2, self.survival[request, source, :most], OUT_OF_REACH)
        value = -self.tokens_per_s * spent.round_s
        value[1:] += np.cumsum(gain.reshape(-1)[order])
        taken = int(value.argmax())
        lengths = np.bincount(order[:taken] // most, minlength=count)
        source = np.where(lengths > 0, source, NO_SOURCE)
        beside = None
        if count > num_requests:
            beside = Beside(source[num_requests:], lengths[num_requests:])
            source, lengths = source[:num_requests], lengths[:num_requests]
        drafting_s, verify_s = float(spent.drafting_s[taken]), float(spent.verify_s[taken])
        return Plan(source, lengths, float(value[taken]), drafting_s, verify_s, beside)
