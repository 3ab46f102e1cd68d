"""Prompt lookup as recorded equals prompt lookup as the runtime does it, token by token."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.workload.acceptance.agreement import MAX_AGREED, NOTHING_TO_COMPARE, agreement
from spinbench.workload.acceptance.lookup import MAX_ORDER, lookup_columns

tokens = st.lists(st.integers(0, 3), max_size=25)
requests = st.lists(st.tuples(tokens, tokens), min_size=1, max_size=4)


@given(requests)
def test_equals_the_index_that_the_runtime_asks(parts):
    expected_order: list[int] = []
    expected_run: list[list[int]] = [[], [], []]
    expected_agreed: list[int] = []
    for prompt, answer in parts:
        for place in range(len(answer)):
            index = NgramIndex([*prompt, *answer[:place]])
            expected_order.append(index.match_order())
            expected_agreed.append(index.agreed_run())
            for order in range(1, MAX_ORDER + 1):
                draft = index.draft(len(answer) - place, order, order)
                agree = [a == b for a, b in zip(draft, answer[place:], strict=False)]
                expected_run[order - 1].append(agree.index(False) if False in agree else len(agree))
    offsets = np.cumsum([0, *(len(answer) for _, answer in parts)]).astype(np.int64)
    answers = np.array([token for _, answer in parts for token in answer], np.int32)
    match_order, lookup_run, lookup_agreed = lookup_columns([prompt for prompt, _ in parts], answers, offsets)
    assert match_order.tolist() == expected_order
    assert lookup_run.tolist() == expected_run
    assert lookup_agreed.tolist() == expected_agreed


@given(tokens)
def test_two_copies_agree_as_far_as_the_index_of_the_shorter_text_drafts_the_same(text):
    index = NgramIndex(text)
    order = index.match_order()
    gram = text[len(text) - order :]
    follows = [end for end in range(order, len(text)) if order and text[end - order : end] == gram]
    drafts = [[text[start + place % (len(text) - start)] for place in range(MAX_AGREED)] for start in follows[-1:-3:-1]]
    if len(drafts) < 2:
        assert index.agreed_run() == NOTHING_TO_COMPARE
    else:
        same = [a == b for a, b in zip(*drafts, strict=True)]
        assert index.agreed_run() == (same.index(False) if False in same else MAX_AGREED)


def test_what_agrees_parts_and_has_parted():
    # x y 1 2 .. x y 1 3 .. x y: both would copy 1, then they part
    index = NgramIndex([5, 6, 1, 2, 7, 5, 6, 1, 3, 8, 5, 6])
    assert index.agreed_run() == 1
    classes = agreement(np.array([1, 0, MAX_AGREED, NOTHING_TO_COMPARE]), 10)
    assert classes.tolist() == [[1, 2, *[3] * 8], [2, *[3] * 9], [1] * 10, [0] * 10]


def test_a_loop_is_copied_to_the_end_of_the_text():
    answer = np.array([7, 8] * 200, np.int32)
    match_order, lookup_run, _ = lookup_columns([[7, 8]], answer, np.array([0, 400]))
    # 7 8 | 7 8 7 8 ..: nothing repeats yet, then 7, then 7 8, then 8 7 8
    assert match_order.tolist()[:5] == [0, 1, 2, 3, 3]
    assert lookup_run[0].tolist()[:3] == [0, 255, 255]
    assert lookup_run[2].tolist()[-3:] == [3, 2, 1]


def test_the_longest_order_is_that_of_the_index():
    assert MAX_ORDER == NgramIndex.MAX_ORDER
