"""The rule that ends drafts by confidence, and the policy that sets it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spinbench.control.draft_length.confident import ConfidentDraftLength, StopsOnConfidence
from spinbench.control.drafting.confidence import ConfidenceStop, ends_while_drafting
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.protocol import SelectorSetting
from tests.control.contexts import context

DRAFTERS = (
    DrafterInfo("a", "model"),
    DrafterInfo("prompt_lookup", "prompt_lookup"),
    DrafterInfo("a+prompt_lookup", "lookup_then_model", min_match_tokens=2),
)
KEYS = {"num_speculative_tokens": 4, "threshold": 0.25, "confidence": "product", "copied_tokens": [1, 2, 3, 6]}


def _policy(**changes) -> ConfidentDraftLength:
    return ConfidentDraftLength(SelectorSetting(DRAFTERS, 8, 20, np.random.default_rng(0)), **{**KEYS, **changes})


def test_a_draft_ends_before_the_first_token_that_is_not_sure():
    # 16 = a half; 0.25 is reached after two halves
    codes = np.array([[16, 16, 0, 1], [0, 33, 0, 0], [33, 0, 0, 0], [1, 2, 3, 4]])
    assert ConfidenceStop(0.25, "product").num_kept(codes).tolist() == [3, 1, 0, 4]
    # each for itself: only the 33 are below
    assert ConfidenceStop(0.25, "token").num_kept(codes).tolist() == [4, 1, 0, 4]
    # nothing goes on behind a token that is not sure, however sure the next would be
    assert ConfidenceStop(0.25, "token").num_kept(np.array([[0, 40, 0, 0]])).tolist() == [1]


@given(
    codes=st.lists(st.integers(0, 255), min_size=1, max_size=8),
    threshold=st.floats(1e-4, 0.99),
    kind=st.sampled_from(["product", "token"]),
)
def test_the_rule_is_that_of_the_probabilities_and_falls_with_the_threshold(codes, threshold, kind):
    stop = ConfidenceStop(threshold, kind)
    kept = int(stop.num_kept(np.array([codes]))[0])
    # as a table stores them: their sum may be beyond a byte
    assert stop.num_kept(np.array([codes], np.uint8))[0] == kept
    # seen token by token: what is not known yet changes nothing
    assert [stop.num_kept(np.array([codes[:known]]))[0] for known in range(1, len(codes) + 1)] == [
        min(kept, known) for known in range(1, len(codes) + 1)
    ]
    assert ConfidenceStop(min(0.999, 1.5 * threshold), kind).num_kept(np.array([codes]))[0] <= kept
    # where a probability is not within rounding of the threshold
    probability = np.exp2(-np.array(codes) / 16)
    sure = np.cumprod(probability) if kind == "product" else probability
    if (np.abs(sure / threshold - 1) > 1e-9).all():
        assert kept == int(np.logical_and.accumulate(sure >= threshold).sum())


def test_no_draft_and_no_token_is_kept():
    assert ConfidenceStop(0.5).num_kept(np.zeros((0, 3), np.int64)).tolist() == []
    assert ConfidenceStop(0.5).num_kept(np.zeros((2, 0), np.int64)).tolist() == [0, 0]


def test_only_a_cpu_looks_after_every_token():
    assert [ends_while_drafting(device) for device in ("cpu", "cuda")] == [True, False]


def test_models_get_one_length_and_copies_that_of_their_match():
    policy = _policy()
    assert policy.max_num_speculative_tokens == 6
    assert isinstance(policy, StopsOnConfidence)
    assert (policy.max_model_tokens, policy.stop) == (4, ConfidenceStop(0.25, "product"))
    seen = replace(context(7), lookup_match_order=np.array([0, 3, 0, 1, 1, 2, 3]))
    drafters = np.array([0, 0, 1, 1, 2, 2, NO_DRAFTER])
    # the model, twice; a lookup without and with a match; both in one: below its shortest match, and above; nobody
    assert policy.lengths(seen, drafters).tolist() == [4, 4, 1, 2, 4, 3, 0]


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0.0}, {"threshold": 1.0}, {"confidence": "entropy"}, {"num_speculative_tokens": -1},
        {"copied_tokens": [1, 2, 3]}, {"copied_tokens": [1, 2, 3, 65]},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(changes):
    with pytest.raises(ValidationError):
        _policy(**changes)
