"""What Thompson sampling believes, seen in what it chooses."""

import numpy as np

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.control.selector.thompson import ThompsonSelector
from tests.control.contexts import context, outcome

K = 4
USUAL = {"rounds_per_choice": 1, "reward": "round_goodput", "decay": 1.0, "prior_tokens": 1000, "time_shape": 50}


def _selector(**changed) -> ThompsonSelector:
    drafters = (DrafterInfo("a", "model"), DrafterInfo("b", "model"))
    return ThompsonSelector(SelectorSetting(drafters, 99, 2000, np.random.default_rng(0), K), **{**USUAL, **changed})


def _share_of_b(selector: ThompsonSelector, rows: range) -> float:
    return float(selector.choose(context(len(rows), rows=rows)).mean())


def _show(selector: ThompsonSelector, row: int, rounds: int, a: int, b: int, time_s=(1.0, 1.0)) -> None:
    """Rounds in which this request had so much accepted of drafters a and b."""
    for _ in range(rounds):
        selector.observe(outcome([row, row], [0, 1], [a, b], time_s))


NEW = range(1000, 2000)


def test_without_a_difference_nobody_is_preferred():
    selector = _selector()
    _show(selector, 0, 10, 2, 2)
    assert 0.45 < _share_of_b(selector, NEW) < 0.55


def test_a_new_request_is_believed_to_be_like_the_others():
    # the less alike requests are, the more a new one is worth exploring
    alike, apart = _selector(), _selector(prior_tokens=0)
    for selector in (alike, apart):
        for _ in range(100):
            _show(selector, 0, 2, 1, 2)
            _show(selector, 0, 1, 2, 1)
    assert _share_of_b(alike, NEW) > 0.95
    assert 0.5 < _share_of_b(apart, NEW) < 0.8


def test_an_old_request_is_believed_what_it_shows():
    selector = _selector(prior_tokens=2)
    _show(selector, 0, 30, 4, 0)
    for row in range(1, 30):
        _show(selector, row, 2, 0, 3)
    chosen = np.mean([selector.choose(context(1)).tolist() for _ in range(200)])
    assert chosen < 0.05
    assert _share_of_b(selector, NEW) > 0.7


def test_less_evidence_means_more_doubt():
    little, much = _selector(), _selector()
    _show(little, 0, 2, 1, 2)
    _show(much, 0, 200, 1, 2)
    assert 0.5 < _share_of_b(little, NEW) < 0.95 < _share_of_b(much, NEW)


def test_time_counts_as_much_as_acceptance():
    # (2 + 1) / 6 against (1 + 1) / 2 tokens/s
    selector = _selector()
    _show(selector, 0, 50, 2, 1, (5.0, 1.0))
    assert _share_of_b(selector, NEW) > 0.95


def test_an_empty_draft_is_a_rejection():
    selector = _selector(reward="draft_goodput")
    for _ in range(30):
        empty = outcome([0, 0], [0, 1], [0, 1], [1.0, 1.0])
        empty.drafted[:] = [0, 4]
        selector.observe(empty)
    assert _share_of_b(selector, NEW) > 0.95


def test_tokens_behind_an_accepted_draft_are_not_rejections():
    # whole drafts of 1 token are no evidence against a second one; whole drafts of 4 with 1 accepted are
    short, cut = _selector(), _selector()
    for _ in range(50):
        whole = outcome([0, 0], [0, 1], [1, 1], [1.0, 1.0])
        whole.drafted[:] = [1, 4]
        short.observe(whole)
        cut.observe(outcome([0, 0], [0, 1], [1, 1], [1.0, 1.0]))
    # a's second token is never drafted, so it is not counted on either: both are alike but for their doubt
    assert 0.4 < _share_of_b(cut, NEW) < 0.6
    assert _share_of_b(short, NEW) > 0.5


def test_evidence_fades():
    selector = _selector(decay=0.8)
    _show(selector, 0, 100, 4, 0)
    _show(selector, 0, 30, 0, 4)
    assert _share_of_b(selector, NEW) > 0.95
