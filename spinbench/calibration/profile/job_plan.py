"""Which jobs a profile times: drawn at random within its limits, some to fit on and others to score on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spinbench.calibration.profile.meta import DrafterMeta
from spinbench.calibration.profile.plan import FIT, ROLES, SHORTEST_PIECE_TOKENS, ProfileLimits, spread
from spinbench.calibration.profile.point import JobPoint, Role
from spinbench.control.jobs.draft_series import MAX_UNSEEN_TOKENS
from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.control.layout.plan import LayoutKind

SHORTEST_CONTEXT_TOKENS = 8
VERIFY_JOBS = {"fit": 16, "held_out": 12}
"""Per layout."""
DRAFT_JOBS = {"fit": 12, "held_out": 8}
"""Per drafter."""
OTHER_JOBS = {"fit": 8, "held_out": 6}
"""Prefills; plain steps per layout; catch-ups per model."""
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
        for place in places:
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
    """Draws jobs of one role."""

    def __init__(self, role: Role, limits: ProfileLimits, rng: np.random.Generator) -> None:
        self._role: Role = role
        self._limits = limits
        self._rng = rng
        shares = (0.0, 1.0, 0.5, 0.25, 0.12) if role == FIT else (0.0, 0.75, 0.35)
        self._batches = spread(limits.max_num_seqs, shares)

    def prefill(self, place: int) -> JobPoint:
        """Whole contexts, as many as fit in a batch of tokens."""
        stops: list[int] = []
        for stop in self._contexts(self._batch(place), 2):
            if not stops or sum(stops) + stop <= self._limits.max_num_batched_tokens:
                stops.append(min(stop, self._limits.max_num_batched_tokens))
        return JobPoint("prefill", TARGET_LANE, "", self._role, (0,) * len(stops), tuple(stops), (), ())

    def step(self, place: int, layout: LayoutKind) -> JobPoint:
        """A step of plain decoding."""
        step = _step(self._role, layout, self._contexts(self._batch(place), 1))
        return replace(step, layout_tokens=self._layout_tokens(layout))

    def catch_up(self, place: int, drafter: DrafterMeta) -> JobPoint:
        """Some requests from their first token on, others from the middle."""
        least = MAX_UNSEEN_TOKENS  # of fewer tokens nobody makes a job
        stops = self._contexts(self._batch(place), least + 1)
        starts = [0 if self._rng.random() < 0.5 else int(self._rng.integers(1, stop - least + 1)) for stop in stops]
        kept = np.cumsum(np.subtract(stops, starts)) <= self._limits.max_rows
        kept[0] = True
        count = int(kept.sum())
        return JobPoint("catch_up", drafter.name, "", self._role, tuple(starts[:count]), tuple(stops[:count]), (), ())

    def round(self, place: int, drafter: DrafterMeta, layout: LayoutKind) -> tuple[JobPoint, JobPoint]:
        """A draft and the verification of what it drafted; in every second round each request has its own K."""
        batch, lengths = self._batch(place), (1, self._limits.max_num_speculative_tokens + 1)
        stops = np.array(self._contexts(batch, 4))
        drafted = self._rng.integers(*lengths, batch)
        if place % 2:
            drafted = np.full(batch, drafted[0])
        copied = np.full(batch, drafter.kind == "prompt_lookup")
        if drafter.kind in ("lookup_then_model", "lookup_then_ngram"):
            copied = self._rng.random(batch) < 0.5
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

    def _batch(self, place: int) -> int:
        return self._batches[place % len(self._batches)]

    def _contexts(self, count: int, at_least: int) -> list[int]:
        """Context lengths, evenly spread in their logarithm, with room for a draft behind each."""
        longest = self._limits.max_context_tokens - self._limits.max_num_speculative_tokens
        shortest = min(max(at_least, SHORTEST_CONTEXT_TOKENS), longest)
        logs = self._rng.uniform(np.log(shortest), np.log(longest), count)
        return [max(at_least, int(value)) for value in np.exp(logs)]


def _step(role: Role, layout: LayoutKind, stops: Sequence[int]) -> JobPoint:
    starts = tuple(stop - 1 for stop in stops)
    return JobPoint("verify", TARGET_LANE, layout, role, starts, tuple(stops), (), ())


def _ints(values: np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
