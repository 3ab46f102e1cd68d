"""Which passes and jobs a profile times: grids to fit on, and other points, drawn apart, to score on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from spinbench.calibration.meta import DrafterMeta
from spinbench.calibration.point import JobPoint, PassAttention, PassPoint, Role
from spinbench.control.lane_name import TARGET_LANE
from spinbench.control.layout import LayoutKind
from spinbench.errors import UserError

FIT: Role = "fit"
ROLES: tuple[Role, ...] = (FIT, "held_out")
SHORTEST_CONTEXT_TOKENS = 8
FULL_CURVE_ROWS = 16
"""Up to here every row count is timed: kernels change from row to row."""
CURVE_GROWTH = 1.4
"""Beyond, the next row count is about this many times the last, rounded to the 16 rows that a matrix tile has."""
DRAFT_JOBS = {"fit": 10, "held_out": 8}
"""Rounds timed per drafter."""
OTHER_JOBS = {"fit": 8, "held_out": 6}
"""Prefills; catch-ups per drafter; plain steps; rounds per further layout."""


@dataclass(frozen=True, slots=True)
class ProfileLimits:
    """How far a profile reaches."""

    max_num_seqs: int
    max_context_tokens: int
    max_num_batched_tokens: int
    """Rows of the largest prefill."""
    max_num_speculative_tokens: int

    def __post_init__(self) -> None:
        room = self.max_num_seqs * self.max_context_tokens
        if max(self.max_num_batched_tokens, self.max_head_rows) > room:
            raise UserError(
                f"max_num_seqs {self.max_num_seqs} x max_context_tokens {self.max_context_tokens} is room for {room} "
                "tokens; max_num_batched_tokens, or a verification with max_num_speculative_tokens, takes more"
            )

    @property
    def max_head_rows(self) -> int:
        """Logits of the largest verification."""
        return self.max_num_seqs * (self.max_num_speculative_tokens + 1)

    @property
    def max_rows(self) -> int:
        """Rows of the largest pass."""
        return max(self.max_num_batched_tokens, self.max_head_rows)


@dataclass(frozen=True, slots=True)
class JobSequence:
    """Jobs that are timed one behind the other, as a round runs them: what one leaves in the caches the next finds."""

    jobs: tuple[JobPoint, ...]


def pass_points(model: str, is_target: bool, layouts: Sequence[LayoutKind], limits: ProfileLimits) -> list[PassPoint]:
    """All passes of a model that a profile times."""
    points = [*_row_curve(model, limits), *_head_curve(model, is_target, limits)]
    for role in ROLES:
        points += _ragged(model, role, limits)
        for layout in layouts if is_target else ():
            if layout != "packed":
                points += _equal(model, layout, role, limits)
    return _apart(dict.fromkeys(points))


def job_sequences(
    drafters: Sequence[DrafterMeta], layouts: Sequence[LayoutKind], limits: ProfileLimits
) -> list[JobSequence]:
    """All jobs that a profile times."""
    sequences: list[JobSequence] = []
    # a model behind a lookup is the model itself where it catches up
    by_model = {drafter.model: drafter for drafter in reversed(drafters) if drafter.model is not None}
    for index, role in enumerate(ROLES):
        rng = np.random.default_rng([2503, 15921, index])
        draw = _JobDraw(role, limits, rng)
        sequences += [JobSequence((draw.prefill(place),)) for place in range(OTHER_JOBS[role])]
        sequences += [
            JobSequence((draw.plain(place, layout),)) for layout in layouts for place in range(OTHER_JOBS[role])
        ]
        for drafter in by_model.values():
            sequences += [JobSequence((draw.catch_up(place, drafter),)) for place in range(OTHER_JOBS[role])]
        for drafter in drafters:
            sequences += [JobSequence(draw.round(place, drafter, layouts[0])) for place in range(DRAFT_JOBS[role])]
        for layout in layouts[1:]:
            # whoever drafted, the verification is the same; a lookup takes no time
            for drafter in sorted(drafters, key=lambda drafter: drafter.kind != "prompt_lookup")[:1]:
                sequences += [JobSequence(draw.round(place, drafter, layout)) for place in range(DRAFT_JOBS[role])]
    fitted = {replace(job, role=FIT) for sequence in sequences for job in sequence.jobs if job.role == FIT}
    return [
        sequence
        for sequence in dict.fromkeys(sequences)
        if all(job.role == FIT or replace(job, role=FIT) not in fitted for job in sequence.jobs)
    ]


def _apart(points: Iterable[PassPoint]) -> list[PassPoint]:
    """Without held-out points that would time what is fitted: small limits leave few different ones."""
    fitted = {replace(point, role=FIT) for point in points if point.role == FIT}
    return [point for point in points if point.role == FIT or replace(point, role=FIT) not in fitted]


def row_counts(limits: ProfileLimits) -> list[int]:
    """Row counts of the forward curve."""
    return _counts(limits.max_rows)


def _counts(last: int) -> list[int]:
    counts = list(range(1, min(FULL_CURVE_ROWS, last) + 1))
    while counts[-1] < last:
        step = max(16, 16 * round(counts[-1] * (CURVE_GROWTH - 1) / 16))
        counts.append(min(last, counts[-1] + step))
    return counts


def _between(counts: Sequence[int]) -> list[int]:
    """Held-out counts: in the middle of every second gap that has one."""
    pairs = [(low, high) for low, high in pairwise(counts) if high - low > 1]
    return [(low + high) // 2 for low, high in pairs[::2]]


def _row_curve(model: str, limits: ProfileLimits) -> Iterator[PassPoint]:
    counts = row_counts(limits)
    yield from (_without_attention(model, "fit", count, 1, limits) for count in counts)
    yield from (_without_attention(model, "held_out", count, 1, limits) for count in _between(counts))


def _head_curve(model: str, is_target: bool, limits: ProfileLimits) -> Iterator[PassPoint]:
    counts = _counts(limits.max_head_rows if is_target else limits.max_num_seqs)
    yield from (_without_attention(model, "fit", count, count, limits) for count in counts)
    yield from (_without_attention(model, "held_out", count, count, limits) for count in _between(counts))


def _without_attention(model: str, role: Role, num_rows: int, num_head_rows: int, limits: ProfileLimits) -> PassPoint:
    """Rows of one request, or of as few as their lengths allow."""
    longest = limits.max_context_tokens
    stops = [longest] * (num_rows // longest) + [num_rows % longest] * (num_rows % longest > 0)
    return PassPoint(model, "none", role, (0,) * len(stops), tuple(stops), num_head_rows)


def _ragged(model: str, role: Role, limits: ProfileLimits) -> Iterator[PassPoint]:
    """Decoding, extending and whole contexts, by batch size, rows and keys."""
    longest, most = limits.max_context_tokens, limits.max_num_seqs
    yield from _equal(model, "packed", role, limits)
    fit = role == "fit"
    # long extensions: a drafter that catches up
    for rows in (32, 128, 512) if fit else (64, 300):
        for keys in (2 * rows, 4 * rows) if fit else (3 * rows,):
            if keys <= longest and rows <= limits.max_rows:
                yield PassPoint(model, "packed", role, (keys - rows,), (keys,), 1)
    for rows in (16, 64, 128, 256, 512, 1024, 2048) if fit else (32, 96, 200, 400, 800, 1600):
        if rows <= min(longest, limits.max_rows):
            yield PassPoint(model, "packed", role, (0,), (rows,), 1)
    together = min(longest, limits.max_rows // most)
    if together >= 2:
        yield PassPoint(model, "packed", role, (0,) * most, (together if fit else max(2, together // 2),) * most, most)


def _equal(model: str, attention: PassAttention, role: Role, limits: ProfileLimits) -> Iterator[PassPoint]:
    """Batches whose requests are alike: batch size x rows x keys."""
    fit = role == "fit"
    batches = _spread(limits.max_num_seqs, (1.0, 0.5, 0.25, 0.0) if fit else (0.75, 0.35))
    widths = _spread(limits.max_num_speculative_tokens + 1, (1.0, 0.45, 0.1, 0.0) if fit else (0.6, 0.0))
    contexts = _spread(limits.max_context_tokens, (1.0, 0.5, 0.2, 0.06) if fit else (0.7, 0.3, 0.1))
    for number, (batch, width, keys) in enumerate((b, w, k) for b in batches for w in widths for k in contexts):
        # a third of the grid: rows, keys and batch size still vary independently
        if width < keys and number % 3 == (0 if fit else 1):
            yield PassPoint(model, attention, role, (keys - width,) * batch, (keys,) * batch, batch)


def _spread(last: int, shares: Sequence[float]) -> list[int]:
    """Counts from 1 to `last` at these shares of the way, each once."""
    return list(dict.fromkeys(max(1, round(last * share)) for share in shares))


class _JobDraw:
    """Draws jobs of one role."""

    def __init__(self, role: Role, limits: ProfileLimits, rng: np.random.Generator) -> None:
        self._role: Role = role
        self._limits = limits
        self._rng = rng
        self._batches = _spread(
            limits.max_num_seqs, (0.0, 1.0, 0.5, 0.25, 0.12) if role == "fit" else (0.0, 0.75, 0.35)
        )

    def prefill(self, place: int) -> JobPoint:
        """Whole contexts, as many as fit in a batch of tokens."""
        stops: list[int] = []
        for stop in self._contexts(self._batch(place), 2):
            if not stops or sum(stops) + stop <= self._limits.max_num_batched_tokens:
                stops.append(min(stop, self._limits.max_num_batched_tokens))
        return JobPoint("prefill", TARGET_LANE, "", self._role, (0,) * len(stops), tuple(stops), (), ())

    def plain(self, place: int, layout: LayoutKind) -> JobPoint:
        """A step of plain decoding."""
        stops = self._contexts(self._batch(place), 1)
        return JobPoint(
            "verify", TARGET_LANE, layout, self._role, tuple(stop - 1 for stop in stops), tuple(stops), (), ()
        )

    def catch_up(self, place: int, drafter: DrafterMeta) -> JobPoint:
        """Some requests from their first token on, others from the middle."""
        stops = self._contexts(self._batch(place), 2)
        starts = [0 if self._rng.random() < 0.5 else int(self._rng.integers(0, stop - 1)) for stop in stops]
        kept = np.cumsum(np.subtract(stops, starts)) <= self._limits.max_rows
        kept[0] = True
        count = int(kept.sum())
        return JobPoint("catch_up", drafter.name, "", self._role, tuple(starts[:count]), tuple(stops[:count]), (), ())

    def round(self, place: int, drafter: DrafterMeta, layout: LayoutKind) -> tuple[JobPoint, JobPoint]:
        """A draft and the verification of what it drafted; in half of the rounds every request has its own K."""
        most, batch = self._limits.max_num_speculative_tokens, self._batch(place)
        contexts = self._contexts(batch, 4)
        drafted = (
            np.full(batch, self._rng.integers(1, most + 1)) if place % 2 else self._rng.integers(1, most + 1, batch)
        )
        copied = np.full(batch, drafter.kind == "prompt_lookup")
        if drafter.kind == "lookup_then_model":
            copied = self._rng.random(batch) < 0.5
        unseen = np.where(copied, 0, self._rng.integers(1, 3, batch))
        stops = np.array(contexts)
        draft = JobPoint(
            "draft",
            drafter.name,
            "",
            self._role,
            _tuple(stops - unseen),
            _tuple(stops),
            _tuple(drafted),
            _tuple(copied),
        )
        verify = JobPoint("verify", TARGET_LANE, layout, self._role, _tuple(stops - 1), _tuple(stops + drafted), (), ())
        return draft, verify

    def _batch(self, place: int) -> int:
        return self._batches[place % len(self._batches)]

    def _contexts(self, count: int, at_least: int) -> list[int]:
        """Context lengths, evenly spread in their logarithm, with room for a draft behind each."""
        longest = self._limits.max_context_tokens - self._limits.max_num_speculative_tokens
        shortest = min(max(at_least, SHORTEST_CONTEXT_TOKENS), longest)
        logs = self._rng.uniform(np.log(shortest), np.log(longest), count)
        return [max(at_least, int(value)) for value in np.exp(logs)]


def _tuple(values: np.ndarray) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
