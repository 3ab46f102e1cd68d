import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spinbench.workload.acceptance.accepted_runs import cut_at_end, run_lengths, stretches

texts = st.lists(st.lists(st.booleans(), max_size=12), min_size=1, max_size=5)


def _offsets(parts: list) -> np.ndarray:
    return np.cumsum([0, *map(len, parts)]).astype(np.int64)


@given(texts)
def test_a_run_ends_at_the_first_refusal_or_at_the_text(parts):
    expected = []
    for part in parts:
        for start in range(len(part)):
            tail = part[start:]
            expected.append(tail.index(False) if False in tail else len(tail))
    accepted = np.array([flag for part in parts for flag in part], np.bool_)
    assert run_lengths(accepted, _offsets(parts)).tolist() == expected
    assert run_lengths(np.stack([accepted, ~accepted]), _offsets(parts))[0].tolist() == expected


def test_runs_are_counted_up_to_255():
    assert run_lengths(np.ones(300, np.bool_), np.array([0, 300])).tolist()[43:47] == [255, 255, 255, 254]


def test_runs_are_cut_at_the_end_of_each_text():
    runs = np.full((2, 5), 9, np.uint8)
    assert cut_at_end(runs, np.array([0, 2, 5])).tolist() == [[2, 1, 3, 2, 1]] * 2


def test_stretches_lie_behind_each_other():
    assert stretches(np.array([7, 0, 3]), np.array([2, 0, 3])).tolist() == [7, 8, 3, 4, 5]
