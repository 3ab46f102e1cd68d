"""Whether tokens follow a known law: chi-square and total variation, with thresholds that a true law passes.

Seeds are fixed, so a check either holds or it does not; the thresholds say that a right sampler would fail one in ten
thousand checks (chi-square) or one in a million (total variation) if the seeds were drawn anew.
"""

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats

from spinbench.control.records.run_record import RunRecord
from spinbench.runtime.draft import Draft, DraftRecorder, ScoredRows, Verdict
from spinbench.runtime.sampling import rejection
from spinbench.runtime.sampling.law import Sampling
from spinbench.workload.request import Request
from tests.runtime import serving, tiny_models

LEAST_EXPECTED = 5.0
"""Cells of a chi-square test that expect fewer are counted together."""


def check_law(counts: np.ndarray, law: np.ndarray) -> None:
    """`counts` of draws [cells] are those of `law` [cells]; AssertionError if not."""
    total = int(counts.sum())
    assert total > 0
    assert counts[law == 0].sum() == 0, "something was drawn that has no probability"
    expected = total * law
    rare = expected < LEAST_EXPECTED
    observed = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum())
    kept = wanted > 0
    if np.count_nonzero(kept) > 1:
        pvalue = stats.chisquare(observed[kept], wanted[kept] * (total / wanted[kept].sum())).pvalue
        assert pvalue > 1e-4, f"chi-square p = {pvalue:.1e}"
    distance = 0.5 * np.abs(counts / total - law).sum()
    # E[distance] <= sqrt(cells / total) / 2, and by McDiarmid it is rarely far above
    limit = 0.5 * np.sqrt(np.count_nonzero(law) / total) + np.sqrt(np.log(1e6) / (2 * total))
    assert distance < limit, f"total variation {distance:.4f}, limit {limit:.4f}"


def check_share(count: int, total: int, probability: float) -> None:
    """`count` of `total` is what `probability` would give."""
    assert stats.binomtest(count, total, min(probability, 1.0)).pvalue > 1e-4, (count / total, probability)


def draft_and_judge(
    target: Sequence[np.ndarray], draft: Sequence[np.ndarray] | Sequence[int], num_requests: int, first_seed: int = 0,
    target_ids: Sequence[int] | None = None,
) -> Verdict:  # fmt: skip
    """One round of `num_requests` requests that differ in their seeds.

    `target` are the laws of K + 1 positions, `draft` the drafter's of K positions, or K tokens that it is sure of.
    """
    width = len(target)
    seeds = np.arange(first_seed, first_seed + num_requests)
    round_start = np.full(num_requests, 10)
    ids = None if target_ids is None else torch.tensor(target_ids)
    if isinstance(draft[0], int):
        drafts = [Draft(torch.tensor(list(draft)))] * num_requests
    else:
        steps = DraftRecorder(ids)
        sampler = rejection.RejectionSampler(Sampling(temperature=1.0, kind="rejection"))
        for step, law in enumerate(draft):
            logits = torch.from_numpy(np.log(law)).expand(num_requests, -1)
            steps.add(sampler.draft(logits, seeds, round_start + step, round_start, ids), np.arange(num_requests))
        drafts = steps.drafts(np.full(num_requests, width - 1))
    tokens = torch.zeros(num_requests, width, dtype=torch.int64)
    tokens[:, 1:] = torch.stack([part.token_ids for part in drafts])
    own = np.ones((num_requests, width), bool)
    law = torch.from_numpy(np.stack(target)).repeat(num_requests, 1)
    return rejection.judge_by_law(law, ScoredRows(tokens, own, round_start - 1, seeds, tuple(drafts)))


def check_known_laws(target: Sequence[np.ndarray], draft: Sequence[np.ndarray], num_requests: int = 20_000) -> None:
    """Whatever is emitted at a position follows the target's law there, and as many are accepted as p and q allow."""
    verdict = draft_and_judge(target, draft, num_requests)
    accepted = verdict.accepted.numpy()
    for position, law in enumerate(target):
        reached = accepted >= position  # does not depend on what is emitted there
        tokens = verdict.token_ids[torch.from_numpy(reached), position].numpy()
        if not len(tokens):
            break
        check_law(np.bincount(tokens, minlength=len(law)), law)
        if position < len(draft):
            kept = float(np.minimum(law, draft[position]).sum())
            check_share(int((accepted > position).sum()), len(tokens), kept)


RNG = np.random.default_rng(5)
KNOWN_TARGET = tuple(RNG.dirichlet(np.ones(7)) for _ in range(3))
KNOWN_DRAFT = tuple(RNG.dirichlet(np.ones(7)) for _ in range(2))
"""Laws of seven tokens that overlap by halves."""

MODEL_SAMPLING = Sampling(temperature=1.5, top_k=3, kind="rejection")
NUM_TOKENS = 4
PROMPT = (7, 9, 11, 7, 9, 12, 7, 9)
"""Repeats itself, so that prompt lookup has something to draft."""


@functools.cache
def ancestral_law(sampling: Sampling) -> dict[tuple[int, ...], float]:
    """Probability of each answer of `NUM_TOKENS` tokens, token by token from transformers' own forward passes."""
    target = tiny_models.target("llama")
    target.model.set_attn_implementation("sdpa")
    answers: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(NUM_TOKENS):
        longer: dict[tuple[int, ...], float] = {}
        contexts = torch.tensor([(*PROMPT, *answer) for answer in answers])
        logits = target.model(contexts, use_cache=False).logits[:, -1].double() / sampling.temperature
        best = logits.topk(sampling.top_k)
        for answer, values, tokens in zip(answers, best.values, best.indices.tolist(), strict=True):
            for token, probability in zip(tokens, values.softmax(-1).tolist(), strict=True):
                longer[(*answer, token)] = answers[answer] * probability
        answers = longer
    return answers


def serve_alike(selector: str, sampling: Sampling = MODEL_SAMPLING, num_requests: int = 1200) -> RunRecord:
    """Serves requests that differ in their seeds alone, on a tiny model with drafters that are right now and then."""
    target, models = tiny_models.shared("llama")
    trace = [
        Request(str(row), 0.0, NUM_TOKENS, prompt_token_ids=PROMPT, ignore_eos=True, seed=row)
        for row in range(num_requests)
    ]
    return serving.serve(
        target, models, trace, selector=selector, draft_length=NUM_TOKENS, max_num_seqs=100,
        layout="padded", sampling=sampling, num_kv_blocks=400,
    )  # fmt: skip


def check_joint_law(selector: str, sampling: Sampling = MODEL_SAMPLING, num_requests: int = 1200) -> None:
    """Answers drafted by `selector` are drawn as ancestral sampling would: all their tokens together."""
    law = ancestral_law(sampling)
    counts = Counter(serving.outputs(serve_alike(selector, sampling, num_requests)).values())
    cells = list(law)
    assert set(counts) <= set(cells), "an answer that plain decoding cannot give"
    check_law(np.array([counts[cell] for cell in cells]), np.array([law[cell] for cell in cells]))
