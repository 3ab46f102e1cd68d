"""The running estimate of goodput."""

import numpy as np
import pytest

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.reward import MAX_NEW_ROUNDS, GoodputEstimate
from tests.control.contexts import outcome

SETTING = SelectorSetting(tuple(DrafterInfo(name, "model") for name in "abc"), 4, 20, np.random.default_rng(0), 4)


def estimate(per_request: bool = True) -> GoodputEstimate:
    return GoodputEstimate("draft_goodput", SETTING, decay=0.5, prior_rounds=2, per_request=per_request)


def test_evidence_fades_and_blends_with_what_all_have_shown():
    goodput = estimate()
    goodput.update(outcome([0], [0], [4], [1.0]))
    goodput.update(outcome([0], [0], [1], [1.0]))
    # own and shared alike: 0.5 * 4 + 1 tokens in 0.5 + 1 s, so that blending changes nothing
    np.testing.assert_allclose(goodput.of(np.array([0, 7])), [[2.0, np.inf, np.inf]] * 2)
    goodput.update(outcome([7], [0], [0], [1.0]))
    # shared: 0.5 * 3 + 0 tokens in 0.5 * 1.5 + 1 s of 0.5 * 1.5 + 1 rounds, taken as 2 rounds; 3 own tokens in 1.5 s
    tokens, time_s, scale = 1.5, 1.75, 2 / 1.75
    expected = [(3 + scale * tokens) / (1.5 + scale * time_s), scale * tokens / (1 + scale * time_s)]
    np.testing.assert_allclose(goodput.of(np.array([0, 7]))[:, 0], expected)
    # who has shown nothing has the figure of all
    assert goodput.of(np.array([0, 5]))[1, 0] == tokens / time_s


@pytest.mark.parametrize("per_request", [False, True])
def test_it_does_not_matter_when_somebody_asks(per_request: bool):
    rng, often, once = np.random.default_rng(0), estimate(per_request), estimate(per_request)
    for _ in range(MAX_NEW_ROUNDS + 3):
        rows = np.sort(rng.choice(20, 4, replace=False))
        drafter = rng.integers(-1, 3, 4)
        done = outcome(rows, drafter, np.where(drafter < 0, 0, rng.integers(0, 5, 4)), (drafter >= 0) * rng.random(4))
        often.update(done)
        often.of(rows)
        once.update(done)
    assert often.of(np.arange(20)).tolist() == once.of(np.arange(20)).tolist()
