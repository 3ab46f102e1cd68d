"""The n-gram table of a target: counted, scored on held-out answers, written with its card."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spinbench.models.distill.dataset import Corpus
from spinbench.models.distill.ngram import CONTEXT_TOKENS, count_ngrams
from spinbench.models.distill.score import Score, score_by_category, score_rows
from spinbench.models.fetch import DEFAULT_MODEL
from spinbench.models.loaded_model import TargetModel
from spinbench.models.ngram_file import NgramDescription, write_ngrams
from spinbench.workload.acceptance.drafter_name import NGRAM_SUFFIX
from spinbench.workload.acceptance.ngram_model import NgramModel, contexts_before
from spinbench.workload.acceptance.probability import decode_probability


def ngram_name(target: TargetModel) -> str:
    """What the table of a target is called."""
    prefix = "smollm2" if target.name == DEFAULT_MODEL else target.name.rstrip("/").rsplit("/", 1)[-1]
    return prefix + NGRAM_SUFFIX


def make_ngrams(target: TargetModel, corpus: Corpus, folder: Path, num_speculative_tokens: int) -> dict[str, Score]:
    """Count the training lines and leave the table in `folder`; returns its held-out scores per category."""
    name, held_out = ngram_name(target), corpus.split.held_out
    model = NgramModel(name, count_ngrams(corpus.lines, corpus.split.train), "")
    correct, sure = {}, []
    for number in held_out.tolist():
        line = corpus.lines[number]
        contexts = contexts_before(line.tokens, line.prompt_tokens, len(line.tokens), model.context_tokens)
        said, code = model.predict(contexts)
        correct[number] = said == line.tokens[line.prompt_tokens :]
        sure.append(np.stack((decode_probability(code), correct[number])))
    scores = score_by_category(correct, corpus.categories, num_speculative_tokens)
    description = NgramDescription(
        format=1,
        name=name,
        target=target.name,
        target_weights_sha256=target.weights_sha256,
        vocab_size=target.vocab_size,
        context_tokens=CONTEXT_TOKENS,
    )
    card = _card(model, scores, np.concatenate(sure, 1), corpus, target.name, num_speculative_tokens)
    write_ngrams(folder, description, model.groups, card)
    return scores


def _card(
    model: NgramModel,
    scores: Mapping[str, Score],
    sure: np.ndarray,
    corpus: Corpus,
    target: str,
    num_speculative_tokens: int,
) -> str:
    """`sure` [2, positions]: confidence of each held-out prediction, and whether it was right."""
    counts = [len(group.key) for group in model.groups]
    answer_tokens = sum(corpus.lines[i].answer_tokens for i in corpus.split.train)
    confidence, right = sure
    edges = [0.0, 0.2, 0.4, 0.6, 0.8, 1.01]
    classes = [(low, high, (low <= confidence) & (confidence < high)) for low, high in itertools.pairwise(edges)]
    lines = [
        f"# {model.name}",
        "",
        f"An n-gram table for speculative decoding of `{target}`: for the newest 1 to {model.context_tokens} tokens, "
        "the token that most often followed them in the target's own answers, and how often. It has no weights, no KV "
        "cache and no multiply-adds; the target checks every token that it proposes.",
        "",
        "## Data",
        "",
        f"- {len(corpus.split.train)} of the target's own greedy answers to prompts that it made up itself "
        f"({answer_tokens} answer tokens); no data set, no benchmark prompt.",
        f"- Contexts kept: {', '.join(f'{n} of {i}' for i, n in enumerate(counts, 1))} tokens; a context that is no "
        "surer than its own end is left out. 9 bytes each.",
        "- Confidence: (c - 1/2) / (n + 1/2), where c of the n times that the context occurred the token followed.",
        "",
        f"## Scores on {len(corpus.split.held_out)} held-out answers",
        "",
        *score_rows(scores, num_speculative_tokens),
        "",
        "| confidence | share of positions | top-1 agreement |",
        "|---|---:|---:|",
        *(
            f"| {low:.1f} to {min(high, 1.0):.1f} | {own.mean():.3f} | {right[own].mean() if own.any() else 0:.3f} |"
            for low, high, own in classes
        ),
        "",
        "Acceptance length counts the bonus token: 1.00 is plain decoding. On prompts written by people acceptance is "
        "lower: see reports/, or replay a trace of yours. More answers make it better: the contexts of 3 and 4 tokens "
        "are far from complete.",
        "",
    ]
    return "\n".join(lines)
