"""One choice for a whole batch: who drafts for whom, and how many tokens, so that the round earns most."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.draft_source import NO_SOURCE
from spinbench.control.round_prices import RoundPrices

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
    """Seconds of drafting, not counting what each request adds to them; side by side, of the slowest drafter in all."""
    beside: Beside | None = None


class _Terms(NamedTuple):
    """Worth of drafts by their length, verified rows not yet paid, each [requests, sources, K]."""

    paid: FloatArray
    """All but the drafters' jobs and steps; side by side, without any drafting."""
    ranks: tuple[FloatArray, ...]
    """What drafts are compared by; each gives a plan."""
    own_s: FloatArray
    """Seconds that each token of a request adds to its drafter's job."""


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
    side_by_side: bool = False
    """Each drafter has a device of its own: together they take as long as the slowest of them, else the sum."""

    def best(self, parting: BoolArray | None = None) -> Plan:
        """The best plan found: models are added one by one while they earn what their steps cost.

        `parting` [requests] are those whose last two sources, the n-gram table and copies, name different first tokens:
        both may then be drafted, as branches of a tree, of which one at most is right.
        """
        terms = self._terms()
        net = None
        chosen: tuple[int, ...] = ()
        depths = np.full(self.survival.shape[1], self.survival.shape[2])
        best = self._exact(terms, chosen, depths)
        while len(chosen) < min(MAX_MODELS, self.num_models):
            if net is None:
                net = self._by_depth(terms.paid)
            model, depth, promise = self._one_more(net, chosen, best.drafting_s)
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

    def _terms(self) -> "_Terms":
        prices, worth, draft = self.prices, self.tokens_per_s, self.prices.draft
        own_s = np.empty_like(self.survival)
        own_s[:] = draft.step_request_s[:, None]
        own_s[:, :, 0] += draft.request_s + prices.missing_s * self.missing_share[:, None]
        gain = self.survival - worth * prices.row_s[:, None, None]
        gain[:, :, 0] -= worth * prices.drafting_s
        charged = np.cumsum(gain - worth * own_s, axis=2)
        if not self.side_by_side:
            return _Terms(charged, (charged,), own_s)
        # a request's share of its drafter's time costs nothing unless that drafter is the slowest: ranked both ways
        free = np.cumsum(gain, axis=2)
        return _Terms(free, (charged, free), own_s)

    def _by_depth(self, total: FloatArray) -> FloatArray:
        """Worth of the best draft of at most k tokens at different prices of a row, [prices, requests, sources, K]."""
        row_prices = self.tokens_per_s * self.prices.row_slopes_s[:, None, None, None]
        net = total - row_prices * np.arange(1, total.shape[2] + 1)
        np.maximum(net, 0, out=net)
        return np.maximum.accumulate(net, axis=3, out=net)

    def _one_more(self, net: FloatArray, chosen: tuple[int, ...], drafting_s: float) -> tuple[int, int, float]:
        """The further model and its number of steps that promise most, and what they promise, in tokens.

        `drafting_s` is what those take that were chosen so far.

        By the Lagrangian bound: at a price per row each request decides alone, and what all gain together, less the
        fixed cost of the model's steps, is largest for the right price.
        """
        draft, most, models = self.prices.draft, net.shape[3], self.num_models
        free = [*chosen, *range(models, net.shape[2])]
        base = net[:, :, free, -1].max(2, initial=0.0)
        extra = np.maximum(net[:, :, :models] - base[:, :, None, None], 0).sum(1).max(0)  # [models, K]
        steps = np.arange(1, most + 1)
        model_s = draft.job_s[:models, None] + draft.step_s[:models, None] * steps
        if self.side_by_side:
            model_s = np.maximum(model_s - drafting_s, 0.0)
        promise = extra - self.tokens_per_s * model_s
        promise[list(chosen)] = -np.inf
        place = int(promise.argmax())
        return place // most, place % most + 1, float(promise.flat[place])

    def _exact(self, terms: "_Terms", chosen: tuple[int, ...], depths: IntArray) -> Plan:
        """The best plan with these models at most; every number of drafted rows is tried at its true cost."""
        count, num_sources, most = self.survival.shape
        usable = np.array([*chosen, *range(self.num_models, num_sources)], np.int64)
        if not len(usable):
            value = -self.tokens_per_s * float(self.prices.verify_s[0])
            return Plan(np.full(count, NO_SOURCE), np.zeros(count, np.int64), value, 0.0)
        if not chosen and len(usable) == 1 and not self.side_by_side:
            return self._along(terms.ranks[0][:, usable[0]], np.full(count, usable[0]), most, terms)
        deepest = int(depths[usable].max())
        steps = np.arange(1, deepest + 1)
        plans = []
        for rank in terms.ranks:
            own = np.where(steps <= depths[usable][:, None], rank[:, usable, :deepest], OUT_OF_REACH)
            for slope_s in self.prices.row_slopes_s[[0, -1]].tolist():
                place = (own - self.tokens_per_s * slope_s * steps).max(2).argmax(1)
                plans.append(self._along(own[np.arange(count), place], usable[place], deepest, terms))
        return max(plans, key=lambda plan: plan.value)

    def _branched(self, terms: "_Terms", plan: Plan, parting: BoolArray) -> Plan:
        """The best plan with the sources of this one and, where a request's sources part, the other one beside."""
        count, num_sources, most = self.survival.shape
        rank, places, steps = terms.ranks[0], np.arange(count), np.arange(1, most + 1)
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

    def _along(self, worth: FloatArray, source: IntArray, most: int, terms: "_Terms") -> Plan:
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
        drafting_s = self._drafting_s(order, source, most, terms)
        if self.side_by_side:
            paid = terms.paid[request, source, :most]
            paid[num_requests:] += self.tokens_per_s * self.prices.drafting_s
            gain = np.where(worth > OUT_OF_REACH / 2, np.diff(paid, axis=1, prepend=0.0), OUT_OF_REACH)
        priced = min(len(order) + 1, len(self.prices.verify_s))
        value = -self.tokens_per_s * (self.prices.verify_s[:priced] + drafting_s[:priced])
        value[1:] += np.cumsum(gain.reshape(-1)[order[: priced - 1]])
        taken = int(value.argmax())
        lengths = np.bincount(order[:taken] // most, minlength=count)
        source = np.where(lengths > 0, source, NO_SOURCE)
        beside = None
        if count > num_requests:
            beside = Beside(source[num_requests:], lengths[num_requests:])
            source, lengths = source[:num_requests], lengths[:num_requests]
        return Plan(source, lengths, float(value[taken]), float(drafting_s[taken]), beside)

    def _drafting_s(self, order: IntArray, source: IntArray, most: int, terms: "_Terms") -> FloatArray:
        """Seconds of drafting when the first 0, 1, .. of the drafted tokens are taken, [tokens + 1].

        Side by side all of it, else without what is in the requests' terms.
        """
        draft = self.prices.draft
        place, depth = np.divmod(order, most)
        by = source[place]
        drafting_s = np.zeros(len(order) + 1)
        own_s = terms.own_s[place % len(self.survival), by, depth] if self.side_by_side else None
        for used in set(source.tolist()):
            mine = by == used
            steps = np.maximum.accumulate(np.where(mine, depth + 1, 0))
            lane_s = draft.job_s[used] * (steps > 0) + draft.step_s[used] * steps
            if own_s is None:
                drafting_s[1:] += lane_s
            else:
                np.maximum(drafting_s[1:], lane_s + np.cumsum(np.where(mine, own_s, 0.0)), out=drafting_s[1:])
        return drafting_s
