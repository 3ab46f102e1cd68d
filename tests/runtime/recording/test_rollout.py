"""A table's rollouts are what a drafter drafts by itself from every position."""

import numpy as np
import pytest
import torch

from spinbench.models.load import DrafterModel
from spinbench.runtime.recording import rollout
from spinbench.runtime.recording.teacher_forcing import PassLimits, score_texts
from spinbench.runtime.recording.written_texts import WrittenTexts
from spinbench.runtime.sampling.sampler import Sampler
from spinbench.workload.acceptance.ngram_model import NO_TOKEN
from spinbench.workload.acceptance.probability import LOWEST, encode_probability
from tests.runtime import recorded, serving, tiny_models

MOST = recorded.ROLLOUT_TOKENS


TEXTS = (0, 1, 5)
"""One that is cut off, and the two that end by themselves."""


def _one_by_one(model: DrafterModel, texts: WrittenTexts, sampling: str) -> np.ndarray:
    """Codes [MOST, positions] of `TEXTS`: each draft by itself, with transformers' own attention and no cache."""
    source = model.model
    source.set_attn_implementation("sdpa")
    sampler = Sampler(recorded.SAMPLINGS[sampling])
    codes = np.full((MOST, len(texts.token_ids)), LOWEST, np.uint8)
    for row in TEXTS:
        prompt = texts.prompts[row]
        for place in range(int(texts.offsets[row + 1] - texts.offsets[row])):
            context = texts.tokens(row)[: len(prompt) + place].tolist()
            for number in range(min(MOST, max(1, int(texts.max_new_tokens[row]) - place - 1))):
                logits = source(torch.tensor([context]), use_cache=False).logits[0, -1:]
                top = float(logits.softmax(-1).max())
                codes[number, texts.offsets[row] + place] = encode_probability(top)
                seeds, position = texts.seeds[[row]], np.array([len(context)])
                context.append(int(sampler.draft_tokens(logits, seeds, position, model.target_ids)[0]))
    return codes


@pytest.mark.parametrize("sampling", recorded.SAMPLINGS)
@pytest.mark.parametrize("number", [0, 2])
def test_rollouts_are_the_drafters_own_drafts(number, sampling):
    model, texts = recorded.models()[1][number], recorded.texts(sampling)
    columns = recorded.table(sampling).columns[model.name]
    assert columns.num_rollout_tokens == MOST
    assert columns.rollout is not None
    expected = _one_by_one(model, texts, sampling)
    own = columns.confidence(MOST)
    # a draft that stays on the text is taken from the next position, which a run of one token more may not have had
    needed = expected != LOWEST
    assert (own[needed] == expected[needed]).all()
    # right and wrong drafts, and some behind the end of a text that ended early
    assert 0.1 < needed[1:].mean() < 1
    assert (columns.rank[needed[-1]] > 0).any()


def test_rollouts_of_an_ngram_table_are_its_own_drafts():
    ngrams, texts = recorded.ngrams(), recorded.texts("greedy")
    own = recorded.table("greedy").columns[ngrams.name].confidence(MOST)
    for row, prompt in enumerate(texts.prompts):
        tokens = texts.tokens(row)
        for place in range(len(prompt), len(tokens)):
            context, codes = tokens[:place].tolist(), []
            for _ in range(MOST):
                token, code = ngrams.predict(np.array([([NO_TOKEN] * 3 + context)[-ngrams.context_tokens :]]))
                context.append(int(token[0]))
                codes.append(int(code[0]))
            assert own[:, texts.offsets[row] + place - len(prompt)].tolist() == codes


@pytest.mark.parametrize("limits", [PassLimits(7, 3), PassLimits(40, 100)])
@pytest.mark.parametrize("chains", [1, 5])
def test_passes_of_any_size_give_the_same(limits, chains, monkeypatch):
    texts = recorded.texts("drafter_invariant")
    model = recorded.models()[1][2]
    monkeypatch.setattr(rollout, "CHAINS", chains)
    columns = score_texts(model, texts, serving.NUCLEUS, limits, rollout_tokens=3)
    whole = recorded.table("drafter_invariant").columns[model.name]
    assert columns.rollout is not None
    assert whole.rollout is not None
    np.testing.assert_array_equal(columns.rollout, whole.rollout[:2])


@pytest.mark.parametrize("family", [family for family in tiny_models.FAMILIES if family != tiny_models.QUICK])
def test_rollouts_work_in_every_family(family):
    model = tiny_models.drafters(tiny_models.target(family))[1]
    texts = recorded.texts("greedy")
    own = score_texts(model, texts, serving.GREEDY, rollout_tokens=MOST).confidence(MOST)
    expected = _one_by_one(model, texts, "greedy")
    assert (own[expected != LOWEST] == expected[expected != LOWEST]).all()


def test_without_rollouts_nothing_else_changes():
    texts, model = recorded.texts("greedy"), recorded.models()[1][0]
    without, with_them = score_texts(model, texts, serving.GREEDY), recorded.table("greedy").columns["good"]
    assert (without.rollout, without.num_rollout_tokens) == (None, 1)
    for name in ("rank", "probability", "top_probability"):
        np.testing.assert_array_equal(getattr(without, name), getattr(with_them, name))
