"""Policies with a wrong belief in their drafter, in simulated runs: what probing brings, and what it costs."""

import math

import numpy as np
import pytest

from spinbench.control.draft_length.adaptive import AdaptiveDraftLength
from spinbench.control.draft_length.budget import BudgetDraftLength
from spinbench.control.draft_length.goodput import GoodputDraftLength
from spinbench.control.draft_length.probing import PROBE_TOKENS
from spinbench.control.draft_length.protocol import DraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.records.run_record import RunRecord
from spinbench.control.selector.protocol import SelectorSetting
from tests.control.made_costs import cost_model
from tests.simulation.simulated import bernoulli, fixed, requests, simulate

INFOS = (DrafterInfo("d", "model"),)
COSTS = cost_model(INFOS, drafter_scale=0.03, straight=True)
BATCH, COUNT, TOKENS = 4, 12, 200


def served(rate: float, draft_length: DraftLength | int, count: int = COUNT) -> RunRecord:
    """A run whose drafter is truly that good."""
    trace = requests(count, TOKENS)
    return simulate(
        trace, bernoulli(trace, {"d": rate}, seed=1), COSTS, infos=INFOS, selector=fixed(), draft_length=draft_length,
        max_num_seqs=BATCH,
    )  # fmt: skip


def policy(kind: str, prior_rate: float, probe_share: float, count: int = COUNT) -> DraftLength:
    """The policy with such a belief."""
    setting = SelectorSetting(INFOS, BATCH, count, np.random.default_rng(0), cost_model=COSTS)
    common = {"max_num_speculative_tokens": 6, "prior_rate": prior_rate, "decay": 0.98, "probe_share": probe_share}
    match kind:
        case "adaptive":
            return AdaptiveDraftLength(setting, **common, min_survival=0.3)
        case "budget":
            return BudgetDraftLength(setting, **common, min_survival=0.3, max_verified_tokens=7 * BATCH)
    return GoodputDraftLength(setting, **common)


@pytest.fixture(scope="module")
def best_s() -> float:
    """The shortest run with a fixed K."""
    return min(served(0.9, k).end_s for k in range(7))


@pytest.fixture(scope="module")
def plain_s() -> float:
    """Without any draft."""
    return served(0.9, 0).end_s


@pytest.mark.parametrize("kind", ["goodput", "adaptive", "budget"])
def test_who_never_drafts_never_learns_and_who_probes_does(kind: str, best_s: float, plain_s: float):
    assert served(0.9, policy(kind, 0.05, 0.0)).end_s == plain_s
    probing = served(0.9, policy(kind, 0.05, 0.01))
    # goodput finds the best K; what the others know of costs is their threshold, so they do as with the right belief
    reached_s = best_s if kind == "goodput" else served(0.9, policy(kind, 0.9, 0.0)).end_s
    assert best_s < 0.85 * plain_s
    assert reached_s < 0.9 * plain_s
    assert probing.end_s < 1.03 * reached_s
    again = served(0.9, policy(kind, 0.05, 0.01))
    assert again.rounds.drafted.tolist() == probing.rounds.drafted.tolist()


@pytest.mark.parametrize("kind", ["goodput", "adaptive", "budget"])
def test_probing_a_bad_drafter_costs_what_it_may(kind: str):
    count, share = 40, 0.02
    plain, always = (served(0.0, k, count) for k in (0, 1))
    probing = served(0.0, policy(kind, 0.05, share, count), count)
    drafted = probing.rounds.drafted
    assert set(drafted.tolist()) == {0, 1}
    # nothing is accepted, so all have the same rounds, the last of which cannot draft
    round_s = (always.end_s - plain.end_s) / (len(set(always.rounds.round_index.tolist())))
    first_s = math.ceil(PROBE_TOKENS / BATCH) * round_s
    lost_s = probing.end_s - plain.end_s
    # catching up comes on top of the first one, and with newcomers in a row of rounds
    assert 0.5 * share * plain.end_s < lost_s < 1.25 * (share * probing.end_s + first_s)
