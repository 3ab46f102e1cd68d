"""A small run whose texts are known, served under every policy."""

from collections.abc import Sequence

import numpy as np

from spinbench.control.costs.cost_model import CostModel
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import CatchUpJob, DraftJob, Job, TokenSpans
from spinbench.control.oracle.foresight import Foresight
from spinbench.control.records.run_record import RunRecord
from spinbench.control.selector.epsilon_greedy import EpsilonGreedySelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.random import RandomSelector
from spinbench.control.selector.round_robin import RoundRobinSelector
from spinbench.control.selector.spin import SpinSelector
from spinbench.simulation.body import JobTimes
from spinbench.workload.acceptance.synthetic import DifficultyClass, LookupLaw, SyntheticLaw, synthetic_streams
from spinbench.workload.request import Request
from tests.simulation import simulated

INFOS = (
    DrafterInfo("a", "model"),
    DrafterInfo("b+prompt_lookup", "lookup_then_model", min_match_tokens=2),
    DrafterInfo("prompt_lookup", "prompt_lookup", max_match_tokens=2),
)


def foresight_of(requests: Sequence[Request], streams, infos=INFOS, prompt_tokens: Sequence[int] | None = None):
    limits = np.array([one.max_new_tokens for one in requests])
    prompts = prompt_tokens or [one.prompt_len_tokens or 0 for one in requests]
    return Foresight(streams, tuple(infos), np.array(prompts), limits)


LAW = SyntheticLaw(
    (
        DifficultyClass("easy", 1.0, {"a": (0.7,), "b": (0.85,)}, LookupLaw((0.2, 0.1, 0.3), (0.2, 0.5, 0.9))),
        DifficultyClass("hard", 1.0, {"a": (0.3, 0.2), "b": (0.4,)}, LookupLaw((0.1, 0.0, 0.0), (0.2, 0.0, 0.0))),
    )
)
TRACE = simulated.requests(12, [1, 2, 3, 40, 50, 60, 35, 45, 20, 30, 25, 55])
STREAMS = synthetic_streams(TRACE, tuple(info.name for info in INFOS), LAW, seed=3)
FORESIGHT = foresight_of(TRACE, STREAMS)
GOODPUT = {"reward": "round_goodput", "decay": 0.95, "prior_rounds": 2}
SELECTORS: dict[str, simulated.MakeSelector] = {
    "plain": PlainSelector,
    **{f"fixed {info.name}": simulated.fixed(info.name) for info in INFOS},
    "random": lambda setting: RandomSelector(setting, rounds_per_choice=1),
    "round_robin": lambda setting: RoundRobinSelector(setting, rounds_per_choice=2),
    "epsilon_greedy": lambda setting: EpsilonGreedySelector(setting, epsilon=0.2, rounds_per_choice=2, **GOODPUT),
    "spin": lambda setting: SpinSelector(
        setting, rounds_per_slot=2, slots_per_epoch=4, exploring_slots=1, per_request=True, capacity=None, **GOODPUT
    ),
}


def run(times: JobTimes, selector: simulated.MakeSelector, **decisions) -> RunRecord:
    return simulated.simulate(TRACE, STREAMS, times, infos=INFOS, selector=selector, **decisions)


class FreeCatchUp:
    """A cost model's times but for what a drafter has not followed: it costs nothing."""

    warnings = ()

    def __init__(self, model: CostModel) -> None:
        self._model = model

    def job_s(self, job: Job) -> float:
        if isinstance(job, DraftJob):
            newest = TokenSpans(job.spans.rows, job.spans.stop - 1, job.spans.stop)
            return self._model.job_s(job._replace(spans=newest))
        return 0.0 if isinstance(job, CatchUpJob) else self._model.job_s(job)

    def gap_s(self, job: Job) -> float:
        return 0.0 if isinstance(job, CatchUpJob) else self._model.gap_s(job)
