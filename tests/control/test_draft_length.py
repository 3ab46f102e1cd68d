import numpy as np
import pytest
from pydantic import ValidationError

from spinbench.control.draft_length import FixedDraftLength
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
