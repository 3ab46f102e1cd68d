"""Streams that follow a stated law: no recording, no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from spinbench.errors import UserError
from spinbench.workload.acceptance.accepted_runs import MAX_RUN, remaining, run_lengths
from spinbench.workload.acceptance.counter_random import Words, request_keys, uniforms
from spinbench.workload.acceptance.drafter_name import models_of
from spinbench.workload.acceptance.lookup import MAX_ORDER
from spinbench.workload.acceptance.streams import AcceptanceStreams, Bools, Ints
from spinbench.workload.acceptance.table import Bytes
from spinbench.workload.request import Request

Rates = tuple[float, ...]
"""Conditional acceptance rates: entry i is the probability that drafted token i + 1 is accepted, given that those
before it were; the last entry goes on for ever."""


@dataclass(frozen=True, slots=True)
class LookupLaw:
    """Prompt lookup: what it finds, and how long its copies are right. Raises UserError for a value out of range."""

    match_probability: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Of a longest match of exactly 1, 2, 3 tokens; together at most 1, the rest is no match."""
    acceptance_rates: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Conditional acceptance rate of every copied token after a match of 1, 2, 3 tokens."""

    def __post_init__(self) -> None:
        for name in ("match_probability", "acceptance_rates"):
            values = getattr(self, name)
            if len(values) != MAX_ORDER:
                raise UserError(f"lookup.{name} has {len(values)} entries; it needs {MAX_ORDER}, for 1, 2, 3 tokens")
            _check_rates(f"lookup.{name}", values)
        if sum(self.match_probability) > 1 + 1e-9:
            raise UserError(
                f"lookup.match_probability adds up to {sum(self.match_probability):g}; it must be at most 1"
            )


@dataclass(frozen=True, slots=True)
class DifficultyClass:
    """A kind of request, with rates of its own. Raises UserError for a value out of range."""

    name: str
    """A request of this category is of this class; others are drawn."""
    weight: float
    """Share among the drawn requests, relative to the other classes' weights, >= 0."""
    acceptance_rates: Mapping[str, Rates]
    """By model; conditional, see `Rates`."""
    lookup: LookupLaw = field(default_factory=LookupLaw)

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise UserError(f"class {self.name!r}: weight is {self.weight}; it must be >= 0 and finite")
        for model, rates in self.acceptance_rates.items():
            if not 1 <= len(rates) <= MAX_RUN:
                raise UserError(
                    f"class {self.name!r}: {model!r} has {len(rates)} acceptance rates; give 1 to {MAX_RUN}"
                )
            _check_rates(f"class {self.name!r}: acceptance rate of {model!r}", rates)


@dataclass(frozen=True, slots=True)
class SyntheticLaw:
    """How acceptance is made up. Raises UserError for a value out of range."""

    classes: tuple[DifficultyClass, ...]
    coupling: float = 0.0
    """Probability that a token is equally hard for all drafters, 0 to 1: with 1 the better drafter accepts whatever the
    worse one does, with 0 they are independent."""

    def __post_init__(self) -> None:
        if not 0 <= self.coupling <= 1:
            raise UserError(f"coupling is {self.coupling}; it must be from 0 to 1")
        if not sum(entry.weight for entry in self.classes) > 0:
            raise UserError("the difficulty classes have no weight in all; give at least one a weight > 0")


def synthetic_streams(
    requests: Sequence[Request], drafter_names: Sequence[str], law: SyntheticLaw, seed: int
) -> AcceptanceStreams:
    """Streams of `max_new_tokens` positions for each request; no token ids, and no text stops early.

    Token t has a uniform number U[d, t] per drafter d: with probability `coupling` one that all drafters share (prompt
    lookup included), else an own one. Drafted token i + 1 of a draft from t is accepted if all before it were and
    U[d, t + i] < rates[i]. So a draft has a run of at least n with probability rates[0] * .. * rates[n - 1]; with one
    constant rate a this is the Bernoulli law a^n, a round with K drafted tokens emits (1 - a^(K+1)) / (1 - a) tokens
    on average (Leviathan et al. 2023), and rounds are independent. Match orders are drawn independently per position.
    A request's draw depends on `seed` and its id alone. Raises UserError for a drafter without rates.
    """
    drafters = tuple(drafter_names)
    lengths = np.array([request.max_new_tokens for request in requests], np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    keys = request_keys([request.id for request in requests])
    classes = _classes(requests, law, keys, seed)
    tokens = _Tokens(seed, law.coupling, np.repeat(keys, lengths), _counters(offsets))
    class_of = np.repeat(classes, lengths)
    models = models_of(drafters)
    run = np.empty((len(models), len(class_of)), np.uint8)
    for row, name in enumerate(models):
        run[row] = _runs(tokens.hardness(name), class_of, [_rates(entry, name) for entry in law.classes], offsets)
    match_order, lookup_run = _lookup(tokens, class_of, law, offsets)
    return AcceptanceStreams(drafters, offsets, run, match_order, lookup_run, np.zeros(len(requests), np.bool_))


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The positions of all requests, and the numbers drawn for them."""

    seed: int
    coupling: float
    keys: Words
    counters: npt.NDArray[np.int32]

    def uniforms(self, stream: str) -> npt.NDArray[np.float64]:
        """One number per position."""
        return uniforms(self.seed, stream, self.keys, self.counters)

    def hardness(self, drafter: str) -> npt.NDArray[np.float64]:
        """U[d, t] for all positions t."""
        if self.coupling == 0:
            return self.uniforms(f"own {drafter}")
        shared = self.uniforms("shared")
        if self.coupling == 1:
            return shared
        return np.where(self.uniforms("coupled") < self.coupling, shared, self.uniforms(f"own {drafter}"))


def _counters(offsets: Ints) -> npt.NDArray[np.int32]:
    """Number of each position within its request."""
    return np.arange(int(offsets[-1]), dtype=np.int32) - np.repeat(offsets[:-1].astype(np.int32), np.diff(offsets))


def _classes(requests: Sequence[Request], law: SyntheticLaw, keys: Words, seed: int) -> Ints:
    """Number of each request's class."""
    weights = np.cumsum([entry.weight for entry in law.classes])
    draws = uniforms(seed, "class", keys, np.zeros(len(keys), np.int64)) * weights[-1]
    drawn = np.minimum(np.searchsorted(weights, draws, side="right"), len(weights) - 1)
    named = {entry.name: number for number, entry in enumerate(law.classes)}
    own = np.array([named.get(request.category or "", -1) for request in requests], np.int64)
    return np.where(own >= 0, own, drawn)


def _rates(entry: DifficultyClass, model: str) -> Rates:
    if model not in entry.acceptance_rates:
        has = ", ".join(entry.acceptance_rates) or "none"
        raise UserError(f"class {entry.name!r}: no acceptance rate for drafter {model!r}; there are rates for {has}")
    return tuple(entry.acceptance_rates[model])


def _runs(hardness: npt.NDArray[np.float64], class_of: Ints, rates: Sequence[Rates], offsets: Ints) -> Bytes:
    """Runs of all positions, from the tail of the rates forwards: run_i(t) = 1 + run_(i+1)(t + 1) if t is accepted."""
    depth = max(map(len, rates))
    # [classes, depth], each class's last rate going on
    padded = np.array([[*entry, *[entry[-1]] * (depth - len(entry))] for entry in rates])
    run = run_lengths(hardness < padded[class_of, -1], offsets)
    at_end = remaining(offsets) == 1
    for draft_position in range(depth - 2, -1, -1):
        following = np.append(run[1:], np.uint8(0))[: len(run)]
        following[at_end] = 0
        longer = np.minimum(following, MAX_RUN - 1) + np.uint8(1)
        run = np.where(hardness < padded[class_of, draft_position], longer, np.uint8(0))
    return run


def _lookup(tokens: _Tokens, class_of: Ints, law: SyntheticLaw, offsets: Ints) -> tuple[Bytes, Bytes]:
    match_order = np.zeros(len(class_of), np.uint8)
    lookup_run = np.zeros((MAX_ORDER, len(class_of)), np.uint8)
    if not any(sum(entry.lookup.match_probability) > 0 for entry in law.classes):
        return match_order, lookup_run
    draws = tokens.uniforms("match")
    hardness = tokens.hardness("prompt_lookup")
    # from the longest match down, so that a draw below the first sum is a match of three tokens
    share = np.array([np.cumsum(entry.lookup.match_probability[::-1]) for entry in law.classes])
    for order in range(1, MAX_ORDER + 1):
        matched: Bools = draws < share[class_of, MAX_ORDER - order]
        match_order[matched] = order
        run = _runs(hardness, class_of, [(entry.lookup.acceptance_rates[order - 1],) for entry in law.classes], offsets)
        lookup_run[order - 1] = np.where(matched, run, 0)
    return match_order, lookup_run


def _check_rates(name: str, values: Sequence[float]) -> None:
    for value in values:
        if not 0 <= value <= 1:  # `not` also catches NaN
            raise UserError(f"{name} is {value}; it must be from 0 to 1")
