"""Which jobs a profile times: drawn at random within its limits, some to fit on and others to score on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from spinbench.calibration.profile.meta import DrafterMeta
from spinbench.calibration.profile.plan import FIT, ROLES, SHORTEST_PIECE_TOKENS, ProfileLimits, spread
from spinbench.calibration.profile.point import JobPoint, Role
from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.jobs.draft_series import MAX_UNSEEN_TOKENS
from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.control.layout.plan import LayoutKind

if TYPE_CHECKING:
    from scipy.stats import qmc

SHORTEST_CONTEXT_TOKENS = 8
VERIFY_JOBS = {"fit": 16, "held_out": 12}
"""Per layout."""
DRAFT_JOBS = {"fit": 12, "held_out": 8}
"""Per drafter; and catch-ups per model."""
OTHER_JOBS = {"fit": 8, "held_out": 6}
"""Prefills; plain steps per layout."""
FLUSH_CONTEXT_TOKENS = 32


@dataclass(frozen=True, slots=True)
class JobGroup:
    """Jobs that are timed one behind the other, and what runs, untimed, before them: as in a round."""

    jobs: tuple[JobPoint, ...]
    lead_in: tuple[JobPoint, ...] = ()
    """The draft that a verification verifies; the target's step that drives the drafters' weights out of the caches."""


def job_groups(drafters: Sequence[DrafterMeta], layouts: Sequence[LayoutKind], limits: ProfileLimits) -> list[JobGroup]:
    """All jobs that a profile times, each in one group. None of the held-out ones is also fitted."""
    groups: list[JobGroup] = []
    flush = (_step(FIT, "packed", [FLUSH_CONTEXT_TOKENS]),)
    for index, role in enumerate(ROLES):
        draw = _Draw(role, limits, np.random.default_rng([2503, 15921, index]))
        places = range(OTHER_JOBS[role])
        groups += [JobGroup((draw.prefill(place),)) for place in places]
        groups += [JobGroup((draw.step(place, layout),)) for layout in layouts for place in places]
        # whoever drafted, the verification is the same; a lookup takes no time
        for drafter in sorted(drafters, key=lambda drafter: drafter.kind != "prompt_lookup")[:1]:
            for layout in layouts:
                rounds = [draw.round(place, drafter, layout) for place in range(VERIFY_JOBS[role])]
                groups += [JobGroup((verify,), (draft,)) for draft, verify in rounds]
        apart = _different_models(drafters)
        for place in range(DRAFT_JOBS[role]):
            # a model behind a lookup is the model itself where it catches up
            catch_ups = [draw.catch_up(place, drafter) for drafter in apart[0] if drafter.model is not None]
            groups.append(JobGroup(tuple(catch_ups), flush))
        for lanes in apart:
            for place in range(DRAFT_JOBS[role]):
                rounds = [draw.round(place, drafter, layouts[0]) for drafter in lanes]
                groups.append(JobGroup(tuple(draft for draft, _ in rounds), flush))
    return _once(groups)


def _different_models(drafters: Sequence[DrafterMeta]) -> list[list[DrafterMeta]]:
    """Drafters in lists of different models, so that none finds its weights in the caches; lookups go first."""
    lists: list[list[DrafterMeta]] = [[]]
    for drafter in sorted(drafters, key=lambda drafter: drafter.kind != "prompt_lookup"):
        fits = (group for group in lists if drafter.model is None or drafter.model not in [d.model for d in group])
        group = next(fits, None)
        if group is None:
            lists.append([drafter])
        else:
            group.append(drafter)
    return lists


def _once(groups: Sequence[JobGroup]) -> list[JobGroup]:
    """Every job once, and no held-out job that is also fitted: small limits leave few different ones."""
    fitted = {replace(job, role=FIT) for group in groups for job in group.jobs if job.role == FIT}
    seen: set[JobPoint] = set()
    kept = []
    for group in groups:
        jobs = [job for job in dict.fromkeys(group.jobs) if job not in seen]
        jobs = [job for job in jobs if job.role == FIT or replace(job, role=FIT) not in fitted]
        seen.update(jobs)
        if jobs:
            kept.append(replace(group, jobs=tuple(jobs)))
    return kept


class _Draw:
    """Draws jobs of one role: at random, but spread over what there may be, since there are few of each.

    Requests of one kind of job, lane and batch size are points of a Halton sequence (Halton 1960), scrambled: the first
    few of them already are short and long, and no length, K or lookup is among the fitted ones by bad luck only.
    """

    def __init__(self, role: Role, limits: ProfileLimits, rng: np.random.Generator) -> None:
        self._role: Role = role
        self._limits = limits
        self._rng = rng
        self._points: dict[tuple[str, str, int], qmc.Halton] = {}
        shares = (0.0, 1.0, 0.5, 0.25, 0.12) if role == FIT else (0.0, 0.75, 0.35)
        self._batches = spread(limits.max_num_seqs, shares)

    def prefill(self, place: int) -> JobPoint:
        """Whole contexts, as many as fit in a batch of tokens."""
        stops: list[int] = []
        for stop in self._contexts(self._requests(place, "prefill")[1], 2).tolist():
            if not stops or sum(stops) + stop <= self._limits.max_num_batched_tokens:
                stops.append(min(stop, self._limits.max_num_batched_tokens))
        return JobPoint("prefill", TARGET_LANE, "", self._role, (0,) * len(stops), tuple(stops), (), ())

    def step(self, place: int, layout: LayoutKind) -> JobPoint:
        """A step of plain decoding."""
        step = _step(self._role, layout, _ints(self._contexts(self._requests(place, "step", layout)[1], 1)))
        return replace(step, layout_tokens=self._layout_tokens(layout))

    def catch_up(self, place: int, drafter: DrafterMeta) -> JobPoint:
        """Some requests from their first token on, others from a further one: of a drafter that was there before."""
        least = MAX_UNSEEN_TOKENS  # of fewer tokens nobody makes a job
        is_new, context, missing = self._requests(place, "catch_up", drafter.name)
        stops = self._contexts(context, least + 1)
        missing_tokens = np.where(is_new < 0.5, stops, _between(missing, least, stops))
        kept = np.cumsum(missing_tokens) <= self._limits.max_rows
        kept[0] = True
        count = int(kept.sum())
        starts = _ints((stops - missing_tokens)[:count])
        return JobPoint("catch_up", drafter.name, "", self._role, starts, _ints(stops[:count]), (), ())

    def round(self, place: int, drafter: DrafterMeta, layout: LayoutKind) -> tuple[JobPoint, JobPoint]:
        """A draft and the verification of what it drafted; in every second round each request has its own K."""
        is_copied, context, length = self._requests(place, f"round {layout}", drafter.name)
        batch = len(context)
        stops = self._contexts(context, 4)
        drafted = 1 + (length * self._limits.max_num_speculative_tokens).astype(int)
        if place % 2:
            drafted = np.full(batch, drafted[0])
        copied = np.full(batch, drafter.kind == "prompt_lookup")
        if drafter.kind in ("lookup_then_model", "lookup_then_ngram"):
            copied = is_copied < 0.5
        # what has no KV cache takes nothing in
        starts = stops - np.where(copied | (drafter.model is None), 0, self._rng.integers(1, 3, batch))
        draft = JobPoint(
            "draft", drafter.name, "", self._role, _ints(starts), _ints(stops), _ints(drafted), _ints(copied)
        )
        verify = JobPoint(
            "verify", TARGET_LANE, layout, self._role, _ints(stops - 1), _ints(stops + drafted), (), (),
            self._layout_tokens(layout),
        )  # fmt: skip
        return draft, verify

    def _layout_tokens(self, layout: LayoutKind) -> int:
        """A window of groups, or a width of pieces, from short to as long as contexts are."""
        if layout not in ("grouped", "decomposed"):
            return 0
        return int(np.exp(self._rng.uniform(np.log(SHORTEST_PIECE_TOKENS), np.log(self._limits.max_context_tokens))))

    def _requests(self, place: int, kind: str, lane: str = "") -> FloatArray:
        """[3, requests]: the next batch's points in the unit cube; the first number is for choices between two."""
        from scipy.stats import qmc  # imported where it is needed: it takes a second

        count = self._batches[place % len(self._batches)]
        points = self._points.get((kind, lane, count))
        if points is None:
            points = self._points[kind, lane, count] = qmc.Halton(3, rng=self._rng)
        return points.random(count).T

    def _contexts(self, at: FloatArray, at_least: int) -> IntArray:
        """Context lengths, evenly spread in their logarithm, with room for a draft behind each."""
        longest = self._limits.max_context_tokens - self._limits.max_num_speculative_tokens
        shortest = min(max(at_least, SHORTEST_CONTEXT_TOKENS), longest)
        return np.maximum(at_least, _between(at, shortest, longest))


def _between(at: FloatArray, least: int, most: IntArray | int) -> IntArray:
    """From `least` (`at` 0) to `most` (`at` 1), evenly in the logarithm."""
    return (least * (most / least) ** at).astype(np.int64)


def _step(role: Role, layout: LayoutKind, stops: Sequence[int]) -> JobPoint:
    starts = tuple(stop - 1 for stop in stops)
    return JobPoint("verify", TARGET_LANE, layout, role, starts, tuple(stops), (), ())


def _ints(values: np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
