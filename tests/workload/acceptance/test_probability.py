import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.workload.acceptance.probability import LOWEST, decode_probability, encode_probability


@given(st.floats(2e-5, 1.0))
def test_a_probability_comes_back_within_two_percent(probability):
    assert decode_probability(encode_probability(probability)) == pytest.approx(probability, rel=0.0222)


def test_every_code_comes_back():
    codes = np.arange(256, dtype=np.uint8)
    assert encode_probability(decode_probability(codes)).tolist() == codes.tolist()


def test_what_is_too_small_gets_the_last_code():
    assert encode_probability([0.0, 1e-300, 1e-6]).tolist() == [LOWEST] * 3
    assert encode_probability(1.0) == 0


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(ValueError, match="between 0 and 1"):
        encode_probability([0.5, value])
