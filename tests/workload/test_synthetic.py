import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.workload.length_law import FixedLength, LengthLaw, LognormalLength, UniformLength
from spinbench.workload.synthetic import SyntheticTrace, synthetic_requests

FIXED = FixedLength(law="fixed", tokens=7)


def lengths(law: LengthLaw, count: int = 20_000) -> np.ndarray:
    return law.draw(count, np.random.default_rng(0))


def test_a_fixed_law_has_one_length() -> None:
    assert lengths(FIXED, 3).tolist() == [7, 7, 7]


def test_a_uniform_law_has_both_bounds_and_all_between_as_often() -> None:
    drawn = lengths(UniformLength(law="uniform", min_tokens=3, max_tokens=6))
    found, times = np.unique(drawn, return_counts=True)
    assert found.tolist() == [3, 4, 5, 6]
    # 5,000 each; a standard deviation is 61.
    assert np.abs(times - 5_000).max() < 300


def test_a_lognormal_law_has_the_median_and_the_spread_asked_for() -> None:
    drawn = lengths(LognormalLength(law="lognormal", median_tokens=1000, sigma=0.5, max_tokens=100_000))
    assert np.median(drawn) == pytest.approx(1000, rel=0.02)
    assert np.log(drawn).std() == pytest.approx(0.5, rel=0.02)


def test_a_lognormal_law_is_clipped_not_redrawn() -> None:
    law = LognormalLength(law="lognormal", median_tokens=100, sigma=1, min_tokens=100, max_tokens=271)
    drawn = lengths(law)
    assert (drawn.min(), drawn.max()) == (100, 271)
    # Half of the mass lies below the median; 271 is one standard deviation above, 100 e^1, beyond which are 15.9 %.
    assert (drawn == 100).mean() == pytest.approx(0.5, abs=0.02)
    assert (drawn == 271).mean() == pytest.approx(0.159, abs=0.02)


def test_each_quantity_has_its_own_stream() -> None:
    wide = UniformLength(law="uniform", max_tokens=1000)
    both = synthetic_requests(
        SyntheticTrace(requests=50, prompt_tokens=wide, output_tokens=wide, request_rate=2, seed=3)
    )
    prompts = [request.prompt_len_tokens for request in both]
    outputs = [request.max_new_tokens for request in both]
    assert prompts != outputs
    alone = synthetic_requests(SyntheticTrace(requests=50, prompt_tokens=wide, output_tokens=FIXED, seed=3))
    assert [request.prompt_len_tokens for request in alone] == prompts
    other = synthetic_requests(
        SyntheticTrace(requests=50, prompt_tokens=wide, output_tokens=wide, request_rate=2, seed=4)
    )
    assert [request.prompt_len_tokens for request in other] != prompts
    assert [request.arrival_s for request in other] != [request.arrival_s for request in both]


def test_a_rate_makes_poisson_arrivals() -> None:
    trace = SyntheticTrace(requests=20_000, prompt_tokens=FIXED, output_tokens=FIXED, request_rate=4)
    gaps_s = np.diff([request.arrival_s for request in synthetic_requests(trace)], prepend=0.0)
    # An exponential law's standard deviation is its mean.
    assert gaps_s.mean() == pytest.approx(1 / 4, rel=0.03)
    assert gaps_s.std() == pytest.approx(1 / 4, rel=0.03)


laws = st.one_of(
    st.builds(FixedLength, law=st.just("fixed"), tokens=st.integers(1, 2**31 - 1)),
    st.builds(
        UniformLength, law=st.just("uniform"), min_tokens=st.integers(1, 9), max_tokens=st.integers(9, 2**31 - 1)
    ),
    st.builds(
        LognormalLength,
        law=st.just("lognormal"),
        median_tokens=st.floats(0, 2**31, exclude_min=True),
        sigma=st.floats(0, 10),
        min_tokens=st.integers(1, 9),
        max_tokens=st.integers(9, 2**31 - 1),
    ),
)
traces = st.builds(
    SyntheticTrace,
    requests=st.integers(1, 30),
    prompt_tokens=laws,
    output_tokens=laws,
    request_rate=st.none() | st.floats(1e-6, 1e6),
    seed=st.integers(0, 2**63 - 1),
)


def bounds(law: LengthLaw) -> tuple[int, int]:
    return (law.tokens, law.tokens) if isinstance(law, FixedLength) else (law.min_tokens, law.max_tokens)


@given(traces)
def test_requests_are_within_bounds_in_order_and_the_same_again(trace: SyntheticTrace) -> None:
    requests = synthetic_requests(trace)
    assert len(requests) == trace.requests
    for law, drawn in (
        (trace.prompt_tokens, [request.prompt_len_tokens or 0 for request in requests]),
        (trace.output_tokens, [request.max_new_tokens for request in requests]),
    ):
        least, most = bounds(law)
        assert all(least <= tokens <= most for tokens in drawn)
    arrivals_s = [request.arrival_s for request in requests]
    assert arrivals_s == sorted(arrivals_s)
    assert (max(arrivals_s) == 0) == (trace.request_rate is None)
    assert requests == synthetic_requests(trace)
