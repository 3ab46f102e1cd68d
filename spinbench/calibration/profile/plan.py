"""Which passes a profile times: grids to fit on, and other points to score on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from spinbench.calibration.profile.point import PassAttention, PassPoint, Role
from spinbench.control.layout.plan import LayoutKind
from spinbench.errors import UserError

FIT: Role = "fit"
ROLES: tuple[Role, ...] = (FIT, "held_out")
FIRST_ROWS = (1, 2, 3, 4, 6, 8, 12, 16)
CURVE_GROWTH = 1.5
"""Beyond these, the next row count is about this many times the last, rounded to the 16 rows that a matrix tile has."""

CUTS: dict[Role, tuple[int, ...]] = {"fit": (1, 2, 3, 5, 8), "held_out": (4, 1, 6, 2)}
"""Groups of a batch, or pieces of a context, taken in turn; as many as have no divisor in common with the contexts."""
SHORTEST_PIECE_TOKENS = 16
STRAIGHT_FROM_ROWS = 256
"""From here on arithmetic is all that matters and the curve is nearly straight: every row count is twice the last."""


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


def pass_points(model: str, is_target: bool, layouts: Sequence[LayoutKind], limits: ProfileLimits) -> list[PassPoint]:
    """All passes of a model that a profile times."""
    points = [*_row_curve(model, limits), *_head_curve(model, is_target, limits)]
    for role in ROLES:
        points += _ragged(model, role, limits)
        for layout in layouts if is_target else ():
            if layout == "padded":
                points += _equal(model, layout, role, limits)
            elif layout != "packed":
                points += _cut_up(model, layout, role, limits)
    return _apart(dict.fromkeys(points))


def _apart(points: Iterable[PassPoint]) -> list[PassPoint]:
    """Without held-out points that would time what is fitted: small limits leave few different ones."""
    fitted = {replace(point, role=FIT) for point in points if point.role == FIT}
    return [point for point in points if point.role == FIT or replace(point, role=FIT) not in fitted]


def _counts(last: int) -> list[int]:
    counts = [count for count in FIRST_ROWS if count < last]
    if len(counts) < len(FIRST_ROWS):
        return [*counts, last]
    while counts[-1] < last:
        growth = CURVE_GROWTH if counts[-1] < STRAIGHT_FROM_ROWS else 2.0
        step = max(16, 16 * round(counts[-1] * (growth - 1) / 16))
        counts.append(min(last, counts[-1] + step))
    return counts


def _between(counts: Sequence[int]) -> list[int]:
    """Held-out counts: in the middle of every second gap that has one."""
    pairs = [(low, high) for low, high in pairwise(counts) if high - low > 1]
    return [(low + high) // 2 for low, high in pairs[::2]]


def _whole_contexts(longest: int) -> list[int]:
    """Lengths at which whole contexts are timed. From 192 and 768 rows on blocks are larger: one just below."""
    counts = [16, 32, 64, 128, 191, 256, 384, 512, 767, 1024]
    while counts[-1] < longest:
        counts.append(2 * counts[-1])
    return [count for count in counts if count < longest] + [longest]


def _row_curve(model: str, limits: ProfileLimits) -> Iterator[PassPoint]:
    counts = _counts(limits.max_rows)
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
    whole = _whole_contexts(min(longest, limits.max_rows))
    yield from (PassPoint(model, "packed", role, (0,), (rows,), 1) for rows in (whole if fit else _between(whole)))
    if not fit and most > 1:
        together = max(2, min(longest, limits.max_rows // most) // 2)
        yield PassPoint(model, "packed", role, (0,) * most, (together,) * most, most)


def _equal(model: str, attention: PassAttention, role: Role, limits: ProfileLimits) -> Iterator[PassPoint]:
    """Batches whose requests are alike: batch size x rows x keys."""
    fit = role == "fit"
    batches = spread(limits.max_num_seqs, (1.0, 0.5, 0.25, 0.0) if fit else (0.75, 0.35))
    widths = spread(limits.max_num_speculative_tokens + 1, (1.0, 0.45, 0.1, 0.0) if fit else (0.6, 0.0))
    contexts = spread(limits.max_context_tokens, (1.0, 0.5, 0.2, 0.06) if fit else (0.7, 0.3, 0.1))
    for number, (batch, width, keys) in enumerate((b, w, k) for b in batches for w in widths for k in contexts):
        # a third of the grid: rows, keys and batch size still vary independently
        if width < keys and number % 3 == (0 if fit else 1):
            yield PassPoint(model, attention, role, (keys - width,) * batch, (keys,) * batch, batch)


def _cut_up(model: str, attention: LayoutKind, role: Role, limits: ProfileLimits) -> Iterator[PassPoint]:
    """The same batches in several rectangles (groups of equal requests), or with contexts in several pieces."""
    counts = CUTS[role]
    for number, alike in enumerate(_equal(model, attention, role, limits)):
        batch, keys = len(alike.stop_tokens), alike.stop_tokens[0]
        width = keys - alike.start_tokens[0]
        count = counts[number % len(counts)]
        if attention == "decomposed":
            yield replace(alike, layout_tokens=-(-keys // min(count, max(1, keys // SHORTEST_PIECE_TOKENS))))
        else:
            groups = [max(width + 1, keys - group * keys // count) for group in range(count)]
            stops = tuple(groups[place % count] for place in range(batch))
            yield replace(alike, start_tokens=tuple(stop - width for stop in stops), stop_tokens=stops)


def spread(last: int, shares: Sequence[float]) -> list[int]:
    """Counts from 1 to `last` at these shares of the way, each once."""
    return list(dict.fromkeys(max(1, round(last * share)) for share in shares))
