"""Rejection sampling keeps the target's law, whoever drafts: on known laws and on a tiny model."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from spinbench.runtime import job_work
from spinbench.runtime.draft import Draft, DraftRecorder, ScoredRows
from spinbench.runtime.sampling.law import RowSampling, Sampling, law_of
from spinbench.runtime.sampling.rejection import RejectionSampler, judge_by_law, request_uniforms, residual_law
from spinbench.runtime.sampling.sampler import Sampler, make_sampler
from tests.runtime import laws, serving, tiny_models

REJECTION = Sampling(temperature=1.0, kind="rejection")
TRACE = serving.requests(8, max_new_tokens=16)


def law(*weights: float) -> np.ndarray:
    return np.array(weights) / sum(weights)


EQUAL = law(3, 1, 2, 4)
CASES: dict[str, tuple[Sequence[np.ndarray], Sequence[np.ndarray]]] = {
    "equal": ([EQUAL, EQUAL, EQUAL], [EQUAL, EQUAL]),
    "overlapping": (laws.KNOWN_TARGET, laws.KNOWN_DRAFT),
    "disjoint": ([law(1, 2, 0, 0), law(1, 1, 0, 0)], [law(0, 0, 3, 1)]),
    "draft inside the target": ([law(1, 2, 3, 4), law(1, 1, 0, 0)], [law(1, 1, 0, 0)]),
    "target inside the draft": ([law(1, 1, 0, 0), law(1, 1, 0, 0)], [law(1, 2, 3, 4)]),
    "one-hot target": ([law(0, 1, 0, 0), law(1, 1, 1, 0)], [law(1, 2, 3, 4)]),
    "one-hot draft": ([law(1, 2, 3, 4), law(1, 1, 0, 0)], [law(0, 0, 1, 0)]),
    "both one-hot, another token": ([law(0, 1, 0, 0), law(1, 1, 1, 0)], [law(0, 0, 0, 1)]),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("case", CASES)
def test_known_laws(case):
    laws.check_known_laws(*CASES[case])


def test_an_equal_draft_is_always_accepted_and_a_disjoint_one_never():
    assert laws.draft_and_judge(*CASES["equal"], 2000).accepted.min() == 2
    with np.errstate(divide="ignore"):
        assert laws.draft_and_judge(*CASES["disjoint"], 2000).accepted.max() == 0


def test_a_copied_token_is_a_one_hot_law():
    target = [law(1, 2, 3, 4), law(4, 3, 2, 1), law(1, 0, 0, 1)]
    verdict = laws.draft_and_judge(target, [2, 1], 20_000)
    accepted = verdict.accepted.numpy()
    laws.check_share(int((accepted >= 1).sum()), len(accepted), 0.3)
    laws.check_share(int((accepted >= 2).sum()), int((accepted >= 1).sum()), 0.3)
    for position in range(3):
        tokens = verdict.token_ids[torch.from_numpy(accepted >= position), position].numpy()
        laws.check_law(np.bincount(tokens, minlength=4), target[position])


def test_tokens_outside_the_draft_vocabulary_have_no_draft_probability():
    target = [law(1, 2, 3, 4, 5), law(1, 1, 1, 1, 1)]
    ids = [4, 0, 2]
    draft = law(1, 2, 3)  # token 4: 1/6, token 0: 2/6, token 2: 3/6
    verdict = laws.draft_and_judge(target, [draft], 20_000, target_ids=ids)
    laws.check_law(np.bincount(verdict.token_ids[:, 0].numpy(), minlength=5), target[0])
    # min(5/15, 1/6) + min(1/15, 2/6) + min(3/15, 3/6)
    laws.check_share(int((verdict.accepted > 0).sum()), 20_000, 1 / 6 + 1 / 15 + 3 / 15)


def test_each_row_has_its_own_temperature_top_p_and_top_k():
    count = 20_000
    target = torch.tensor([2.0, 1.5, 0.3, -0.2, 1.0, -1.0, 0.0], dtype=torch.float64)
    draft = torch.tensor([0.5, 1.5, 1.3, -0.2, 0.0, -1.0, 1.0], dtype=torch.float64)
    kinds = RowSampling(np.array([1.0, 0.5, 2.0, 0.0]), np.array([1.0, 1.0, 0.8, 1.0]), np.array([0, 3, 0, 0]))
    of_row = np.arange(count) % 4
    rows = RowSampling(kinds.temperature[of_row], kinds.top_p[of_row], kinds.top_k[of_row])
    draft_law = law_of(draft.expand(count, -1), rows)
    seeds, start = np.arange(count), np.full(count, 10)
    tokens = torch.zeros(count, 2, dtype=torch.int64)
    steps = DraftRecorder(None)
    drawn = DrawnFrom(draft_law).draft(torch.zeros(count, 7), seeds, start, start, None)
    steps.add(drawn, np.arange(count))
    tokens[:, 1] = drawn.token_ids
    own = np.ones((count, 2), bool)
    twice = RowSampling(np.repeat(rows.temperature, 2), np.repeat(rows.top_p, 2), np.repeat(rows.top_k, 2))
    target_law = law_of(target.repeat(2 * count, 1), twice)
    scored = ScoredRows(tokens, own, start - 1, seeds, tuple(steps.drafts(np.ones(count, np.int64))))
    emitted = judge_by_law(target_law, scored).token_ids[:, 0].numpy()
    kept = {0: list(range(7)), 1: [0, 1, 4], 2: [0, 1, 4, 2, 6], 3: [0]}
    for kind, keep in kept.items():
        expected = np.zeros(7)
        temperature = kinds.temperature[kind] or 1.0
        expected[keep] = torch.softmax(target[keep] / temperature, 0).numpy()
        laws.check_law(np.bincount(emitted[of_row == kind], minlength=7), expected)


class DrawnFrom(RejectionSampler):
    """Draws drafts from a given law."""

    def __init__(self, law: torch.Tensor) -> None:
        super().__init__(REJECTION)
        self._given = law

    def _law(self, logits: torch.Tensor) -> torch.Tensor:
        return self._given


def test_drafts_of_different_lengths_drafters_and_none_at_all_are_judged_together():
    count = 4 * 8000
    target = [law(1, 2, 3, 4), law(4, 3, 2, 1), law(1, 5, 0, 1)]
    draft = [law(4, 1, 1, 1), law(1, 1, 1, 4)]
    seeds, start = np.arange(count), np.full(count, 10)
    first, second, copied, plain = np.arange(count).reshape(4, -1)
    drafts: list[Draft | None] = [None] * count
    for members, length, ids in ((first, 2, None), (second, 1, torch.tensor([3, 0, 1, 2]))):
        steps = DraftRecorder(ids)
        for step in range(length):
            logits = torch.from_numpy(np.log(draft[step])).expand(len(members), -1)
            steps.add(
                RejectionSampler(REJECTION).draft(logits, seeds[members], start[members] + step, start[members], ids),
                np.arange(len(members)),
            )
        for member, made in zip(members.tolist(), steps.drafts(np.full(len(members), length)), strict=True):
            drafts[member] = made
    for member in copied.tolist():
        drafts[member] = Draft(torch.tensor([0]))
    lengths = np.array([0 if made is None else len(made) for made in drafts])
    own = np.arange(3) <= lengths[:, None]
    tokens = torch.zeros(count, 3, dtype=torch.int64)
    for row, made in enumerate(drafts):
        if made is not None:
            tokens[row, 1 : 1 + len(made)] = made.token_ids
    rows = torch.from_numpy(np.stack(target)).repeat(count, 1)[torch.from_numpy(own.reshape(-1))]
    verdict = judge_by_law(rows, ScoredRows(tokens, own, start - 1, seeds, tuple(drafts)))
    accepted = verdict.accepted.numpy()
    assert (accepted <= lengths).all()
    for members in (first, second, copied, plain):
        for position in range(lengths[members[0]] + 1):
            reached = members[accepted[members] >= position]
            emitted = verdict.token_ids[torch.from_numpy(reached), position].numpy()
            laws.check_law(np.bincount(emitted, minlength=4), target[position])
    # sum of min(p, q): 1/10 + 1/7 + 1/7 + 1/7, with the second's columns moved to tokens 3, 0, 1, 2
    laws.check_share(int((accepted[first] > 0).sum()), len(first), 0.1 + 3 / 7)
    laws.check_share(int((accepted[second] > 0).sum()), len(second), 0.1 + 1 / 7 + 1 / 7 + 0.4)


def test_the_residual_is_a_law_even_where_nothing_is_left():
    p, q = torch.tensor([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([[0.5, 0.5], [0.75, 0.25]])
    assert residual_law(p, q).tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_draws_of_streams_rounds_positions_and_seeds_are_apart():
    seeds, positions, device = np.arange(2000), np.arange(2000), torch.device("cpu")
    draws = [
        request_uniforms("draft", seeds, positions, device, 0),
        request_uniforms("draft", seeds, positions, device, 1),
        request_uniforms("accept", seeds, positions, device),
        request_uniforms("emit", seeds, positions, device),
        request_uniforms("emit", seeds, positions + 1, device),
        request_uniforms("emit", seeds + 2**40, positions, device),
    ]
    correlation = np.corrcoef(torch.stack(draws).numpy())
    assert np.abs(correlation - np.eye(len(draws))).max() < 5 / np.sqrt(2000)
    assert torch.equal(draws[3], request_uniforms("emit", seeds, positions, device))


@pytest.mark.parametrize(
    "selector",
    ["plain", "fixed poor", "fixed small_vocabulary", "fixed prompt_lookup", "fixed good+prompt_lookup", "random"],
)
def test_joint_law_of_a_models_answers(selector):
    laws.check_joint_law(selector)


def test_the_drafts_above_are_kept_and_rejected():
    rounds = laws.serve_alike("random", num_requests=200).rounds
    assert 0.2 < rounds.accepted.sum() / rounds.drafted.sum() < 0.8
    for index in range(len(rounds.drafters)):
        assert 0 < rounds.accepted[rounds.drafter == index].sum() < rounds.drafted[rounds.drafter == index].sum()


def _served(selector: str, **decisions: object) -> dict[str, tuple[int, ...]]:
    target, models = tiny_models.shared()
    sampling = Sampling(temperature=0.9, top_p=0.9, kind="rejection")
    record = serving.serve(target, models, TRACE, selector=selector, sampling=sampling, **decisions)
    return serving.outputs(record)


def test_a_run_repeats_and_its_text_depends_on_who_drafts():
    set_ups = [(1, "packed"), *((8, layout) for layout in serving.LAYOUTS)]
    alike = [_served("fixed poor", max_num_seqs=max_num_seqs, layout=layout) for max_num_seqs, layout in set_ups]
    assert all(texts == alike[0] for texts in alike)
    others = [_served(selector) for selector in ("plain", "fixed small_vocabulary", "fixed prompt_lookup")]
    assert len({tuple(texts.items()) for texts in [alike[0], *others]}) == 4


@pytest.mark.parametrize("selector", ["fixed poor", "fixed small_vocabulary", "random"])
def test_temperature_zero_is_greedy_decoding(monkeypatch, selector):
    target, models = tiny_models.shared()
    greedy = serving.outputs(serving.serve(target, [], TRACE, selector="plain"))
    assert isinstance(make_sampler(Sampling(kind="rejection")), Sampler)
    # and the rule itself gives the same, where every law is one-hot
    monkeypatch.setattr(job_work, "make_sampler", RejectionSampler)
    record = serving.serve(target, models, TRACE, selector=selector)
    assert serving.outputs(record) == greedy
    assert record.rounds.accepted.sum() > 0
