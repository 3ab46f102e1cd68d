import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.models.distill.score import score, score_by_category, simulate_rounds


def bits(text: str) -> np.ndarray:
    return np.array([c == "1" for c in text])


@pytest.mark.parametrize(
    ("correct", "k", "rounds", "accepted"),
    [
        ("00000", 4, 5, 0),
        ("11111", 4, 1, 4),  # 4 accepted + the bonus = 5
        ("111111", 4, 2, 4),  # 4 + bonus, then one token is left: it is the bonus of round 2
        ("110111", 2, 2, 4),  # 11 + bonus 0; 11 + bonus 1
        ("101010", 4, 3, 3),  # (1 0) (1 0) (1 0)
        ("", 4, 0, 0),
        ("1", 4, 1, 0),
        ("1111", 0, 4, 0),  # K = 0 is plain decoding
    ],
)
def test_rounds(correct: str, k: int, rounds: int, accepted: int) -> None:
    assert simulate_rounds(bits(correct), k) == (rounds, accepted)


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 8))
def test_every_token_is_emitted_once(correct: list[bool], k: int) -> None:
    rounds, accepted = simulate_rounds(np.array(correct, dtype=bool), k)
    assert rounds + accepted == len(correct)
    assert accepted <= k * rounds
    assert accepted <= sum(correct)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 7), st.integers(0, 39))
def test_a_better_drafter_never_needs_more_rounds(correct: list[bool], k: int, flip: int) -> None:
    better = list(correct)
    better[flip % len(better)] = True
    assert simulate_rounds(np.array(better), k)[0] <= simulate_rounds(np.array(correct), k)[0]


def test_answers_are_pooled() -> None:
    # rounds: 1 + 5 = 6, tokens 5 + 5 = 10, right 5
    pooled = score([bits("11111"), bits("00000")], 4)
    assert (pooled.tokens, pooled.top1_agreement, pooled.acceptance_length) == (10, 0.5, 10 / 6)


def test_categories() -> None:
    scores = score_by_category({0: bits("11111"), 2: bits("00000")}, ["code", "chat", "chat"])
    assert list(scores) == ["all", "chat", "code"]
    assert scores["code"].acceptance_length == 5.0
    assert scores["chat"].acceptance_length == 1.0
