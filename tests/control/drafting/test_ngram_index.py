import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinbench.control.drafting.ngram_index import NgramIndex

tokens = st.lists(st.integers(0, 3), max_size=60)


def _longest_match(text: list[int], max_order: int) -> tuple[int, int | None]:
    """(order, position of the follower of the last earlier occurrence), by looking everywhere."""
    for order in range(max_order, 0, -1):
        for start in range(len(text) - order - 1, -1, -1):
            if len(text) > order and text[start : start + order] == text[-order:]:
                return order, start + order
    return 0, None


@given(tokens, st.integers(0, 60))
def test_equals_a_search_of_the_whole_text(text, cut):
    index = NgramIndex(text[:cut])
    index.extend(text[cut:])
    order, follower = _longest_match(text, 3)
    assert index.match_order() == order
    draft = index.draft(5, 3, 1)
    if follower is None:
        assert draft == []
    else:
        grown = list(text)
        for offset in range(5):
            grown.append(grown[follower + offset])
        assert draft == grown[len(text) :]


def test_copies_what_followed_the_latest_occurrence():
    index = NgramIndex([1, 2, 9, 1, 2, 7, 1, 2])
    assert index.match_order() == 2
    assert index.draft(3, 3, 1) == [7, 1, 2]


def test_min_order_refuses_short_matches():
    index = NgramIndex([5, 6, 5])
    assert index.draft(2, 3, 1) == [6, 5]
    assert index.draft(2, 3, 2) == []


@pytest.mark.parametrize("text", [[], [4]])
def test_nothing_to_copy(text):
    index = NgramIndex(text)
    assert index.match_order() == 0
    assert index.draft(4, 3, 1) == []
