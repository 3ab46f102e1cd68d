"""What would change the answer: those that lead at other batch sizes, loads and on each category alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from spinbench.cli.config.replay import resolved
from spinbench.cli.hydra_app.app import Point, compose_points
from spinbench.cli.hydra_app.override_text import with_overrides
from spinbench.cli.hydra_app.override_value import override_value
from spinbench.cli.recommend.points import Simulated, Simulations
from spinbench.cli.recommend.question import Question
from spinbench.cli.recommend.search import Found
from spinbench.cli.recommend.search_space import SetUp, with_value
from spinbench.sweep.halving import ranked


@dataclass(frozen=True)
class Case:
    """One other circumstance."""

    axis: str
    """batch, load or category."""
    value: str
    metric: str
    """What decides here."""
    outcomes: tuple[Simulated, ...]
    """Of those that lead and could be served, best first."""
    failures: Mapping[str, str]
    """Why the others could not, by their names."""

    def value_of(self, one: Simulated) -> float:
        """The deciding metric."""
        assert one.metrics is not None
        return float(one.metrics[self.metric] or 0.0)

    def of(self, name: str) -> Simulated | None:
        """What became of a set-up here; None where it could not be served."""
        return next((one for one in self.outcomes if one.set_up.name == name), None)


@dataclass(frozen=True)
class _Plan:
    axis: str
    value: str
    metric: str
    values: Mapping[str, Any]
    """By key with dots."""
    arrivals: tuple[Mapping[str, Any], tuple[str, ...]] | None = None
    """Another section, and the overrides that give it."""


def what_if(question: Question, found: Found, simulations: Simulations) -> list[Case]:
    """Every case of the config for those that lead, on the part of the trace that the last rung but one was.

    Categories are on the whole.
    """
    plans = [*_batches(question, found), *_loads(question, found), *_categories(question)]
    set_ups = [one.set_up for one in found.leading(question.config.halving.finalists)]
    done = simulations.run([(one, _point(one, plan)) for plan in plans for one in set_ups], "summary")
    cases = []
    for place, plan in enumerate(plans):
        outcomes = done[place * len(set_ups) : (place + 1) * len(set_ups)]
        lower = plan.metric == "mean_e2el_ms"
        scores = {}
        for one in outcomes:
            score = one.score(question.objective)
            scores[one.set_up.name] = None if score is None else ((score[1],) if lower else score)
        by_name = {one.set_up.name: one for one in outcomes}
        failures = {one.set_up.name: one.failure for one in outcomes if one.failure is not None}
        order = tuple(by_name[name] for name in ranked(scores))
        cases.append(Case(plan.axis, plan.value, plan.metric, order, failures))
    return cases


def _point(one: SetUp, plan: _Plan) -> Point:
    point = one.point
    if plan.arrivals is not None:
        section, words = plan.arrivals
        config = {str(key): value for key, value in point.config.items()} | {"arrivals": dict(section)}
        point = replace(
            point, config=config, choices={**point.choices, "arrivals": "poisson"},
            overrides=tuple(with_overrides(point.overrides, words)),
        )  # fmt: skip
    for key, value in plan.values.items():
        point = with_value(point, key, value)
    return point


def _part(question: Question, found: Found) -> dict[str, float]:
    shares = [rung.part for rung in found.rungs]
    return {"trace.part": question.config.trace.part * shares[-2]} if len(shares) > 1 else {}


def _batches(question: Question, found: Found) -> list[_Plan]:
    limit = question.profile.meta.limits.max_num_seqs
    sizes = [size for size in question.config.what_if.max_num_seqs if size <= limit]
    part = _part(question, found)
    return [_Plan("batch", str(size), question.objective, {**part, "scheduler.max_num_seqs": size}) for size in sizes]


def _loads(question: Question, found: Found) -> list[_Plan]:
    """Without an SLO every set-up that keeps up serves what comes, so that latency decides."""
    arrivals, part = question.config.arrivals, _part(question, found)
    metric = question.objective if question.slo_ms is not None else "mean_e2el_ms"
    plans = []
    for load in question.config.what_if.loads:
        if arrivals.kind == "all_at_once" and arrivals.max_concurrency is None:
            assert found.best.metrics is not None
            rate_rps = float(f"{load * float(found.best.metrics['request_throughput']):.4g}")
            poisson = compose_points("replay", [["arrivals=poisson"]])[0][0]
            section = {
                **resolved(poisson.config)["arrivals"], "request_rate": rate_rps, "seed": question.config.seed
            }  # fmt: skip
            words = ("arrivals=poisson", f"arrivals.request_rate={override_value(rate_rps)}")
            plans.append(_Plan("load", f"{rate_rps:.3g} requests/s", metric, part, (section, words)))
        elif arrivals.kind == "gamma" and arrivals.request_rate != float("inf"):
            rate_rps = load * arrivals.request_rate
            plans.append(
                _Plan("load", f"{rate_rps:.3g} requests/s", metric, {**part, "arrivals.request_rate": rate_rps})
            )  # fmt: skip
        elif arrivals.kind == "trace":
            scale = question.config.trace.time_scale / load
            plans.append(_Plan("load", f"{load:g} x the trace's", metric, {**part, "trace.time_scale": scale}))
        # in a closed loop the load follows from the batch
    return plans


def _categories(question: Question) -> list[_Plan]:
    names = sorted({request.category for request in question.trace.requests if request.category is not None})
    if not question.config.what_if.categories or len(names) < 2:
        return []
    return [_Plan("category", name, question.objective, {"trace.part_category": name}) for name in names]
