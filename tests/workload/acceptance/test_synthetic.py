import numpy as np
import pytest

from spinbench.errors import UserError
from spinbench.workload.acceptance import counter_random
from spinbench.workload.acceptance.synthetic import DifficultyClass, LookupLaw, SyntheticLaw, synthetic_streams
from spinbench.workload.acceptance.walk import walk
from spinbench.workload.request import Request

NAMES = ("good", "poor")


def requests(count: int, length: int, category: str | None = None) -> list[Request]:
    return [
        Request(f"r{i}", 0.0, length, prompt_len_tokens=3, ignore_eos=True, category=category) for i in range(count)
    ]


def law(coupling: float = 0.0, good: tuple[float, ...] = (0.8,), poor: tuple[float, ...] = (0.5,)) -> SyntheticLaw:
    return SyntheticLaw((DifficultyClass("all", 1.0, {"good": good, "poor": poor}),), coupling)


def nobody_copies(order: np.ndarray) -> np.ndarray:
    return np.zeros(len(order), np.bool_)


@pytest.mark.parametrize("k", [1, 4])
def test_a_round_emits_what_the_closed_form_says(k):
    streams = synthetic_streams(requests(200, 400), NAMES, law(), seed=0)
    for drafter, rate in enumerate((0.8, 0.5)):
        rounds = walk(streams, drafter, k, nobody_copies)
        # (1 - a^(K+1)) / (1 - a); texts of 400 tokens cut the last round, far below the tolerance
        assert rounds.acceptance_length == pytest.approx((1 - rate ** (k + 1)) / (1 - rate), rel=0.02)


def test_numbers_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    whole = synthetic_streams(requests(3, 50), NAMES, law(), seed=0).run
    monkeypatch.setattr(counter_random, "NUMBERS_AT_ONCE", 7)
    assert np.array_equal(synthetic_streams(requests(3, 50), NAMES, law(), seed=0).run, whole)


def test_rates_by_draft_position():
    streams = synthetic_streams(requests(100, 500), ("good",), law(good=(0.9, 0.5, 0.2)), seed=1)
    run = streams.run[0]
    marginal = [(run >= n).mean() for n in (1, 2, 3, 4)]
    # 0.9, 0.9 * 0.5, 0.45 * 0.2, 0.09 * 0.2: the last rate goes on
    assert marginal == pytest.approx([0.9, 0.45, 0.09, 0.018], abs=0.01)


def test_runs_end_with_the_text():
    streams = synthetic_streams(requests(2, 3), ("good",), law(good=(1.0, 1.0)), seed=0)
    assert streams.run.tolist() == [[3, 2, 1, 3, 2, 1]]


def test_coupled_drafters_agree_on_which_tokens_are_hard():
    def share_of_both(coupling: float) -> float:
        run = synthetic_streams(requests(50, 400), NAMES, law(coupling), seed=2).run
        return float(((run[0] > 0) & (run[1] > 0)).mean())

    # independent 0.8 * 0.5; shared min(0.8, 0.5); in between a mixture
    assert share_of_both(0.0) == pytest.approx(0.4, abs=0.015)
    assert share_of_both(1.0) == pytest.approx(0.5, abs=0.015)
    assert share_of_both(0.5) == pytest.approx(0.5 * 0.5 + 0.5 * 0.4, abs=0.015)
    run = synthetic_streams(requests(5, 100), NAMES, law(1.0), seed=2).run
    assert (run[0] >= run[1]).all()


def test_classes_are_drawn_by_weight_or_named_by_the_category():
    classes = (
        DifficultyClass("easy", 3.0, {"good": (1.0,)}),
        DifficultyClass("hard", 1.0, {"good": (0.0,)}),
    )
    drawn = synthetic_streams(requests(1000, 1), ("good",), SyntheticLaw(classes), seed=0)
    assert drawn.run.mean() == pytest.approx(0.75, abs=0.05)
    named = synthetic_streams(requests(100, 1, "hard"), ("good",), SyntheticLaw(classes), seed=0)
    assert named.run.max() == 0


def test_lookups_match_and_are_right_as_often_as_said():
    lookup = LookupLaw((0.2, 0.1, 0.3), (0.1, 0.4, 0.9))
    classes = (DifficultyClass("all", 1.0, {}, lookup),)
    streams = synthetic_streams(requests(100, 400), ("prompt_lookup",), SyntheticLaw(classes), seed=0)
    order = streams.match_order
    assert [(order == n).mean() for n in range(4)] == pytest.approx([0.4, 0.2, 0.1, 0.3], abs=0.01)
    for n, rate in ((1, 0.1), (2, 0.4), (3, 0.9)):
        copied = streams.lookup_run[n - 1][order >= n]
        assert (copied >= 1).mean() == pytest.approx(rate, abs=0.02)
        assert streams.lookup_run[n - 1][order < n].max() == 0
    rows, places = np.zeros(400, np.int64), np.arange(400)
    assert streams.lookup_finds(rows, places, 3, 2).mean() == pytest.approx(0.4, abs=0.1)


def test_a_seed_gives_the_same_streams_again_whatever_requests_stand_beside():
    all_of_them = synthetic_streams(requests(3, 20), NAMES, law(0.5), seed=5)
    last = synthetic_streams(requests(3, 20)[2:], NAMES, law(0.5), seed=5)
    assert last.run.tolist() == all_of_them.run[:, 40:].tolist()
    other = synthetic_streams(requests(3, 20), NAMES, law(0.5), seed=6)
    assert other.run.tolist() != all_of_them.run.tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: law(coupling=1.5), "coupling is 1.5; it must be from 0 to 1"),
        (lambda: law(good=(0.5, float("nan"))), "acceptance rate of 'good' is nan"),
        (lambda: law(good=()), "'good' has 0 acceptance rates"),
        (lambda: DifficultyClass("x", -1.0, {}), "class 'x': weight is -1.0"),
        (lambda: SyntheticLaw((DifficultyClass("x", 0.0, {}),)), "no weight in all"),
        (lambda: LookupLaw((0.5,)), "lookup.match_probability has 1 entries"),
        (lambda: LookupLaw((0.5, 0.5, 0.5)), "adds up to 1.5"),
        (lambda: LookupLaw((0.1, 0.1, 0.1), (2.0, 0.0, 0.0)), "lookup.acceptance_rates is 2.0"),
        (lambda: synthetic_streams(requests(1, 1), ("best",), law(), 0), "no acceptance rate for drafter 'best'"),
    ],
)
def test_what_is_out_of_range_is_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
