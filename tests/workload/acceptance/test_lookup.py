"""Prompt lookup as recorded equals prompt lookup as the runtime does it, token by token."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.ngram_index import NgramIndex
from spinbench.workload.acceptance.lookup import MAX_ORDER, lookup_columns

tokens = st.lists(st.integers(0, 3), max_size=25)
requests = st.lists(st.tuples(tokens, tokens), min_size=1, max_size=4)


@given(requests)
def test_equals_the_index_that_the_runtime_asks(parts):
    expected_order: list[int] = []
    expected_run: list[list[int]] = [[], [], []]
    for prompt, answer in parts:
        for place in range(len(answer)):
            index = NgramIndex([*prompt, *answer[:place]])
            expected_order.append(index.match_order())
            for order in range(1, MAX_ORDER + 1):
                draft = index.draft(len(answer) - place, order, order)
                agree = [a == b for a, b in zip(draft, answer[place:], strict=False)]
                expected_run[order - 1].append(agree.index(False) if False in agree else len(agree))
    offsets = np.cumsum([0, *(len(answer) for _, answer in parts)]).astype(np.int64)
    answers = np.array([token for _, answer in parts for token in answer], np.int32)
    match_order, lookup_run = lookup_columns([prompt for prompt, _ in parts], answers, offsets)
    assert match_order.tolist() == expected_order
    assert lookup_run.tolist() == expected_run


def test_a_loop_is_copied_to_the_end_of_the_text():
    answer = np.array([7, 8] * 200, np.int32)
    match_order, lookup_run = lookup_columns([[7, 8]], answer, np.array([0, 400]))
    # 7 8 | 7 8 7 8 ..: nothing repeats yet, then 7, then 7 8, then 8 7 8
    assert match_order.tolist()[:5] == [0, 1, 2, 3, 3]
    assert lookup_run[0].tolist()[:3] == [0, 255, 255]
    assert lookup_run[2].tolist()[-3:] == [3, 2, 1]


def test_the_longest_order_is_that_of_the_index():
    assert MAX_ORDER == NgramIndex.MAX_ORDER
