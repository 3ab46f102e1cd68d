from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from spinbench.control.draft_length.by_match_order import MatchOrderDraftLength
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.protocol import SelectorSetting
from tests.control.contexts import context

SETTING = SelectorSetting(
    (
        DrafterInfo("m", "model"),
        DrafterInfo("t-ngram", "ngram"),
        DrafterInfo("t-ngram+prompt_lookup", "lookup_then_ngram", min_match_tokens=2),
    ),
    max_num_seqs=8,
    num_requests=8,
    rng=np.random.default_rng(0),
)


def test_fixed_is_zero_without_a_drafter():
    assert FixedDraftLength(num_speculative_tokens=5).lengths(context(3), np.array([0, NO_DRAFTER, 2])).tolist() == [
        5,
        0,
        5,
    ]


@pytest.mark.parametrize("wrong", [-1, 65, 2.5, "many"])
def test_out_of_range(wrong):
    with pytest.raises(ValidationError, match="num_speculative_tokens"):
        FixedDraftLength(num_speculative_tokens=wrong)


def test_match_order_chooses_the_length():
    seen = replace(context(4), lookup_match_order=np.array([0, 3, 2, 3]))
    lengths = MatchOrderDraftLength(SETTING, num_speculative_tokens=[1, 2, 3, 6], min_ngram_confidence=0.0)
    assert lengths.max_num_speculative_tokens == 6
    assert lengths.lengths(seen, np.array([0, 1, 2, NO_DRAFTER])).tolist() == [1, 6, 3, 0]


@pytest.mark.parametrize("wrong", [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, -1], 4])
def test_a_length_for_each_order(wrong):
    with pytest.raises(ValidationError, match="num_speculative_tokens"):
        MatchOrderDraftLength(SETTING, num_speculative_tokens=wrong, min_ngram_confidence=0)


def test_an_unsure_ngram_table_is_not_asked():
    # drafters: a model, a table, a table behind lookups of two tokens; matches of 1, 1, 1, 2, 1 tokens
    seen = replace(
        context(5),
        lookup_match_order=np.array([1, 1, 1, 2, 1]),
        ngram_confidence=np.array([0.4, 0.4, 0.4, 0.4, 0.5]),
    )
    lengths = MatchOrderDraftLength(SETTING, num_speculative_tokens=[1, 2, 3, 6], min_ngram_confidence=0.5)
    assert lengths.lengths(seen, np.array([0, 1, 2, 2, 2])).tolist() == [2, 0, 0, 3, 2]
