"""NVIDIA's exchange format: what is written can be read there, and what is read is not misread."""

import json
from pathlib import Path

import numpy as np
import pytest

from spinbench.errors import UserError
from spinbench.workload.acceptance.synthetic import DifficultyClass, SyntheticLaw, synthetic_streams
from spinbench.workload.acceptance.walk import WalkedRounds, walk
from spinbench.workload.request import Request
from spinbench.workload.speculation_profile import (
    read_speculation_profile,
    speculation_profile,
    write_speculation_profile,
)


def profile(
    rounds: WalkedRounds, k: int, categories: tuple[str | None, ...] = (None, None), method: str = "draft_model"
):
    return speculation_profile(
        rounds, categories, k, method=method, draft_checkpoint={"name": "d"}, target_model={"name": "t"},
        measurement_conditions={"dataset": "x"},
    )  # fmt: skip


# as in Model-Optimizer's own test: 40 rounds emit 1 token, 30 emit 2, 30 emit 3
ROUNDS = WalkedRounds(np.repeat([0, 1], 50), np.repeat([0, 1, 2], [40, 30, 30]))


def test_positions_and_lengths_are_two_apart():
    made = profile(ROUNDS, 3)
    # P(>= 1 accepted) = 60/100, P(>= 2) = 30/100; given the first, 30/60
    assert made["marginal_accept_rates"] == [0.6, 0.3, 0.0]
    assert made["conditional_accept_rates"] == [0.6, 0.5, 0.0]
    assert made["acceptance_length_histogram"] == {"1": 40, "2": 30, "3": 30}
    # (40 + 60 + 90) / 100 = 1 + 0.6 + 0.3
    assert made["mean_accept_length"] == 1.9
    assert made["validation"]["mean_consistency"]["passed"]
    assert made["validation"]["mean_consistency"]["implied_mean_accept_length"] == 1.9


def test_a_length_that_never_occurred_is_no_gap():
    # lengths 1 and 3 only: P(>= 2) is P(>= 3)
    made = profile(WalkedRounds(np.zeros(4, np.int64), np.array([0, 2, 2, 0])), 2)
    assert made["marginal_accept_rates"] == [0.5, 0.5]
    assert made["conditional_accept_rates"] == [0.5, 1.0]


def test_means_per_step_and_per_request():
    rounds = WalkedRounds(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 4]))
    made = profile(rounds, 4, ("code", "chat"))
    # steps (1 + 1 + 1 + 5) / 4; requests (1 + 5) / 2
    assert (made["mean_accept_length"], made["mean_accept_length_per_request"]) == (2.0, 3.0)
    assert made["per_category"] == {"chat": {"mean_accept_length": 5.0}, "code": {"mean_accept_length": 1.0}}


def test_only_a_models_draft_begins_its_longer_draft():
    assert profile(ROUNDS, 3)["accept_length_model"] == "chain_analytic"
    assert profile(ROUNDS, 3, method="ngram")["accept_length_model"] == "measured_per_k"


def test_no_round_gives_no_rates():
    with pytest.raises(ValueError, match="no round"):
        profile(WalkedRounds(np.empty(0, np.int64), np.empty(0, np.int64)), 3)


def test_rates_come_back_and_make_the_same_acceptance(tmp_path: Path):
    requests = [Request(f"r{i}", 0.0, 500, prompt_len_tokens=3, ignore_eos=True) for i in range(100)]

    def walked(rates: tuple[float, ...], seed: int) -> WalkedRounds:
        law = SyntheticLaw((DifficultyClass("all", 1.0, {"d": rates}),))
        streams = synthetic_streams(requests, ["d"], law, seed)
        return walk(streams, 0, 4, lambda order: np.zeros(len(order), np.bool_))

    measured = walked((0.9, 0.7, 0.5, 0.3), seed=0)
    path = tmp_path / "d" / "speculation_profile.json"
    write_speculation_profile(path, profile(measured, 4, (None,) * 100))
    read = read_speculation_profile(path)
    assert read.conditional_accept_rates == pytest.approx((0.9, 0.7, 0.5, 0.3), abs=0.02)
    assert read.marginal_accept_rates == pytest.approx((0.9, 0.63, 0.315, 0.0945), abs=0.02)
    again = walked(read.conditional_accept_rates, seed=1)
    assert again.acceptance_length == pytest.approx(measured.acceptance_length, rel=0.01)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": "2.0"}, "key 'schema_version' is '2.0'; this version reads '1.0'"),
        ({"measured": False}, "a stub without measurements"),
        ({"verification_method": "block"}, "'verification_method' is 'block'"),
        ({"num_speculative_tokens": 0}, "'num_speculative_tokens' is 0"),
        ({"num_speculative_tokens": 4}, "'conditional_accept_rates' has 3 entries; it must be a list of num_spec"),
        ({"marginal_accept_rates": None}, "'marginal_accept_rates' has None"),
        ({"marginal_accept_rates": [0.6, float("nan"), 0.0]}, r"marginal_accept_rates\[1\] is nan"),
        ({"conditional_accept_rates": [0.6, 1.5, 0.0]}, r"conditional_accept_rates\[1\] is 1.5"),
        # marginal rates under the name of the conditional ones
        (
            {"conditional_accept_rates": [0.6, 0.3, 0.0]},
            r"marginal_accept_rates\[1\] is 0.3, but the conditional_accept_rates up to there multiply to 0.18",
        ),
    ],
)
def test_a_wrong_profile_is_refused_in_one_line(tmp_path: Path, changes: dict, message: str):
    path = tmp_path / "speculation_profile.json"
    path.write_text(json.dumps(profile(ROUNDS, 3) | changes))
    with pytest.raises(UserError, match=message) as caught:
        read_speculation_profile(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"{", "not valid JSON"), (b"[]", "expected a JSON object")]
)
def test_what_is_no_profile_is_refused(tmp_path: Path, content: bytes | None, message: str):
    path = tmp_path / "speculation_profile.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_speculation_profile(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_speculation_profile(tmp_path / "file" / "speculation_profile.json", profile(ROUNDS, 3))
