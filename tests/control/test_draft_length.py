from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from spinbench.control.draft_length import FixedDraftLength, MatchOrderDraftLength
from spinbench.control.request_table import NO_DRAFTER
from tests.control.contexts import context


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
    lengths = MatchOrderDraftLength(num_speculative_tokens=[1, 2, 3, 6])
    assert lengths.max_num_speculative_tokens == 6
    assert lengths.lengths(seen, np.array([0, 1, 2, NO_DRAFTER])).tolist() == [1, 6, 3, 0]


@pytest.mark.parametrize("wrong", [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, -1], 4])
def test_a_length_for_each_order(wrong):
    with pytest.raises(ValidationError, match="num_speculative_tokens"):
        MatchOrderDraftLength(num_speculative_tokens=wrong)
