"""The search itself: halving in simulation, then gains of the best over what it is compared with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spinbench.calibration.fitting.score import score_profile
from spinbench.cli.recommend.points import Simulated, Simulations
from spinbench.cli.recommend.question import Question
from spinbench.errors import UserError
from spinbench.metrics.store import Run
from spinbench.report.answer.gain import Gain, drawn_bounds, gain
from spinbench.report.answer.model_error import ModelError, ProfiledError, error_of
from spinbench.sweep.halving import Rung, Score, halve, parts


@dataclass(frozen=True)
class Found:
    """What the search came to."""

    rungs: tuple[Rung, ...]
    outcomes: dict[str, Simulated]
    """Of the largest part that each set-up was simulated on, by its name."""
    finalists: tuple[Simulated, ...]
    """On the whole trace, best first."""
    plain: Simulated
    """The best plain decoding."""
    single: Simulated
    """The best single drafter with a fixed K."""

    @property
    def best(self) -> Simulated:
        """What is recommended."""
        return self.finalists[0]

    def leading(self, count: int) -> list[Simulated]:
        """The best so many, and both baselines, each once, best first: all finalists may be many on a short trace."""
        kept = {one.set_up.name for one in (*self.finalists[:count], self.plain, self.single)}
        return [one for one in self.finalists if one.set_up.name in kept]

    @property
    def confirmed(self) -> list[Simulated]:
        """What is worth a real run: the best three, plain decoding and the best single drafter, each once."""
        named = {one.set_up.name: one for one in (*self.finalists[:3], self.plain, self.single)}
        return list(named.values())


def search(question: Question, simulations: Simulations, tell: Callable[[str], None]) -> Found:
    """Find the best set-up. Raises UserError when none, or no baseline, can be served."""
    setting, total = question.config.halving, len(question.trace.requests)
    names = [one.name for one in question.set_ups]
    class_of = {one.name: one.role for one in question.set_ups if one.role != "other"}
    shares = parts(len(names), total, setting.factor, setting.finalists, setting.smallest_requests)
    outcomes: dict[str, Simulated] = {}

    def score(candidates: Sequence[str], part: float) -> dict[str, Score | None]:
        tell(f"{len(candidates)} set-ups on {max(1, round(part * total))} of {total} requests")
        done = simulations.on_part([question.by_name(name) for name in candidates], part)
        outcomes.update({one.set_up.name: one for one in done})
        return {one.set_up.name: one.score(question.objective) for one in done}

    rungs = halve(names, class_of, shares, setting.factor, setting.finalists, score)
    finalists = tuple(outcomes[name] for name in rungs[-1].ranked)
    if not finalists:
        failed = next(iter(outcomes.values()))
        raise UserError(f"no set-up can be served, e.g. {failed.set_up.name}: {failed.failure}")
    baselines = []
    for role, called in (("plain", "plain decoding"), ("single", "a single drafter with a fixed K")):
        members = [one for one in finalists if one.set_up.role == role]
        if not members:
            failed = next(one for one in outcomes.values() if one.set_up.role == role)
            raise UserError(f"{called} cannot be served, so there is nothing to compare with: {failed.failure}")
        baselines.append(members[0])
    plain, single = baselines
    return Found(tuple(rungs), outcomes, finalists, plain, single)


class Gains:
    """Predicted gains with their bounds; each run is read once."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._runs: dict[str, Run] = {}
        self.model = model_error(question)

    def of(self, one: Simulated, base: Simulated) -> Gain | None:
        """What a set-up gains over another; None where the other reaches nothing."""
        ours, theirs = (self._value(side) for side in (one, base))
        if theirs <= 0 or ours <= 0:
            return None
        if one is base:
            return Gain(1.0, 1.0, 1.0)
        slo_ms, runs = self._question.slo_ms, (self._run(one).tables, self._run(base).tables)
        ratio = ours / theirs
        error, base_error = (error_of(self.model, tables, slo_ms) for tables in runs)
        return gain(ratio, drawn_bounds(ratio, *runs, slo_ms), error, base_error)

    def _value(self, one: Simulated) -> float:
        return float((one.metrics or {}).get(self._question.objective) or 0.0)

    def _run(self, one: Simulated) -> Run:
        name = one.set_up.name
        if name not in self._runs:
            self._runs[name] = one.run()
        return self._runs[name]


def model_error(question: Question) -> ModelError | None:
    """Where the simulator's error is known from; None of a profile that nobody measured, without a validation."""
    if question.validated is not None:
        return question.validated
    if question.profile.meta.kind != "measured":
        return None
    scores = [one for one in score_profile(question.profile) if one.what == "job" and one.lane == "all"]
    return ProfiledError({one.kind: one.mape_percent / 100 for one in scores}) if scores else None
