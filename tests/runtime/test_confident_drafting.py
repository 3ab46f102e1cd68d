"""Drafts that end where the drafter is no longer sure: lossless, cheaper, and the same whether rows leave or not."""

import functools

import numpy as np
import pytest
import torch

from spinbench.control.drafting.confidence import ConfidenceStop
from spinbench.control.jobs.job import DraftJob
from spinbench.control.records.run_record import RunRecord
from spinbench.runtime.drafters import model as drafter_module
from spinbench.runtime.drafters.model import ModelDrafter
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.sampling.confidence import DraftConfidence, top_probability
from tests.covering import matrix
from tests.runtime import serving, tiny_models

TRACE = serving.requests(8, max_new_tokens=16)
REJECTION = serving.Sampling(temperature=0.8, kind="rejection")


@functools.cache
def _plain(family: str, sampling: str) -> dict[str, tuple[int, ...]]:
    target = tiny_models.target(family)
    if sampling == "greedy":
        return serving.hf_outputs(target, TRACE)
    return serving.outputs(serving.serve(target, [], TRACE, selector="plain", sampling=serving.SAMPLINGS[sampling]))


def _serve(family: str = tiny_models.QUICK, **decisions) -> RunRecord:
    target, models = tiny_models.shared(family)
    return serving.serve(target, models, serving.three_batches(TRACE, decisions.get("max_num_seqs", 3)), **decisions)


@matrix(
    {
        "family": tiny_models.FAMILIES,
        "policy": serving.CONFIDENT,
        "selector": ("fixed good", "fixed small_vocabulary", "fixed good+prompt_lookup", "random", "hedge"),
        "draft_length": (1, 5),
        "max_num_seqs": (1, 3, 8),
        "layout": serving.LAYOUTS,
        "sampling": serving.SAMPLINGS,
    },
    # a draft is ended where it is made, by its drafter's probabilities: neither family nor layout knows
    apart=[("family", "selector"), ("family", "layout"), ("selector", "layout")],
)
def test_ending_drafts_is_lossless(family, policy, selector, draft_length, max_num_seqs, layout, sampling):
    record = _serve(
        family, selector=selector, policy=policy, draft_length=draft_length, max_num_seqs=max_num_seqs, layout=layout,
        sampling=serving.SAMPLINGS[sampling],
    )  # fmt: skip
    plain = _plain(family, sampling)
    answers = serving.outputs(record)
    assert len(answers) == min(3 * max_num_seqs, len(TRACE))
    assert answers == {name: plain[name] for name in answers}


@pytest.mark.parametrize("placement", ["shared", "own_devices"])
def test_ending_drafts_is_lossless_under_preemption_and_in_a_pipeline(placement):
    record = _serve(
        selector="random", policy=serving.CONFIDENT[0], max_num_seqs=8, num_kv_blocks=20, depth=2, placement=placement
    )
    assert sum(request.num_preemptions for request in record.requests) > 0
    assert serving.outputs(record) == _plain(tiny_models.QUICK, "greedy")


@pytest.mark.parametrize("policy", serving.CONFIDENT)
def test_drafts_end_at_different_lengths_none_included(policy):
    rounds = _serve("llama", selector="fixed good", policy=policy, draft_length=5, max_num_seqs=8).rounds
    assert set(rounds.drafted.tolist()) >= {0, 1, 2, 3}
    assert (rounds.num_speculative_tokens >= rounds.drafted).all()
    assert (rounds.accepted <= rounds.drafted).all()


def test_a_lower_threshold_drafts_more():
    drafted = [
        _serve(selector="fixed good", policy=f"confident product {threshold}", max_num_seqs=8).rounds.drafted.mean()
        for threshold in (0.3, 0.05, 0.001)
    ]
    assert drafted == sorted(drafted)
    assert drafted[0] < drafted[-1]


@pytest.mark.parametrize(
    "sampling", [serving.GREEDY, serving.NUCLEUS, REJECTION], ids=["greedy", "invariant", "rejection"]
)
def test_running_all_steps_ends_drafts_at_the_same_tokens(sampling, monkeypatch):
    """What a GPU does: the host hears of the ends once, behind the last step."""
    decisions = {"selector": "fixed good+prompt_lookup", "policy": serving.CONFIDENT[0], "draft_length": 5}
    decisions["max_num_seqs"] = 8
    early = _serve(sampling=sampling, **decisions)
    looks: list[int] = []
    look = DraftConfidence.go_on
    monkeypatch.setattr(DraftConfidence, "go_on", lambda self, own: (looks.append(1), look(self, own))[1])
    monkeypatch.setattr(drafter_module, "ends_while_drafting", lambda device_type: False)
    late = _serve(sampling=sampling, **decisions)
    assert not looks
    assert serving.outputs(early) == serving.outputs(late)
    # who shares a round depends on the clock, what becomes of a request does not
    order = [np.lexsort((record.rounds.context_tokens, record.rounds.row)) for record in (early, late)]
    for name in ("row", "drafted", "accepted", "context_tokens", "num_speculative_tokens", "catch_up_tokens"):
        ours, theirs = (getattr(record.rounds, name)[own] for record, own in zip((early, late), order, strict=True))
        assert np.array_equal(ours, theirs), name
    work = [
        int(record.spans.num_tokens[[kind == "draft" for kind in record.spans.kind]].sum()) for record in (early, late)
    ]
    assert work[0] < work[1]


def test_rows_leave_the_batch_and_the_spans_count_what_was_run(monkeypatch):
    rows_of_passes: list[int] = []
    own = ModelRunner.packed

    def counted(self, spans, token_ids, *others):
        rows_of_passes.append(len(token_ids))
        return own(self, spans, token_ids, *others)

    monkeypatch.setattr(ModelRunner, "packed", counted)
    record = _serve(selector="fixed good", policy=serving.CONFIDENT[0], draft_length=5, max_num_seqs=8, layout="padded")
    # verification is padded, all else is packed
    packed = [kind != "verify" for kind in record.spans.kind]
    assert sum(rows_of_passes) == int(record.spans.num_tokens[packed].sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_confidence_is_the_softmax_of_the_likeliest_token(dtype):
    logits = 4 * torch.randn(40, 50, dtype=dtype, generator=torch.Generator().manual_seed(0))
    probability = top_probability(logits)
    assert probability.dtype == dtype
    torch.testing.assert_close(probability, logits.softmax(-1).max(-1).values)
    assert top_probability(logits.bfloat16()).dtype == torch.float32


def _logits(*probability: float) -> torch.Tensor:
    """Rows whose likeliest token has this probability."""
    top = torch.tensor(probability, dtype=torch.float64)
    return torch.stack((top, (1 - top) / 2, (1 - top) / 2), 1).log()


def _followed(stop: ConfidenceStop | None, looks: bool) -> DraftConfidence:
    """Three drafts of K = 2, 3, 1: sure of all, ended before the second token, and short."""
    sure = DraftConfidence(3, stop)
    for step, requests, probability in ((0, [0, 1, 2], (1.0, 0.75, 0.5)), (1, [0, 1], (0.5, 0.5)), (2, [1], (1.0,))):
        sure.add(_logits(*probability), np.array(requests))
        if looks and stop is not None and step == 0:
            assert sure.go_on(np.array([2, 0])).tolist() == [True, True]
        if looks and stop is not None and step == 1:
            assert sure.go_on(np.array([0, 1])).tolist() == [True, False]
    return sure


@pytest.mark.parametrize("looks", [False, True])
def test_drafts_are_followed_whether_one_looks_or_not(looks):
    most = np.array([2, 3, 1])
    sure = _followed(ConfidenceStop(0.5, "product"), looks)
    assert sure.num_kept(most).tolist() == [2, 1, 1]
    # (1 + 1/2) / 2, (3/4 + 1/2) / 2, 1/2: the token that ended a draft counts, what was run behind it does not
    assert sure.means(most) == pytest.approx([0.75, 0.625, 0.5])
    without = _followed(None, looks)
    assert without.go_on(np.array([1, 2])).tolist() == [True, True]
    assert without.num_kept(most).tolist() == [2, 3, 1]
    assert without.means(most) == pytest.approx([0.75, 0.75, 0.5])


def test_a_part_of_a_job_keeps_its_rule(monkeypatch):
    seen: list[DraftJob] = []
    own = ModelDrafter.draft
    monkeypatch.setattr(ModelDrafter, "draft", lambda self, job, text: (seen.append(job), own(self, job, text))[1])
    _serve(selector="fixed good+prompt_lookup", policy=serving.CONFIDENT[1], max_num_seqs=8)
    assert seen
    assert all(job.stop is not None for job in seen)
