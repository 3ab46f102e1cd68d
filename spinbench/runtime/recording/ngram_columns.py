"""What an n-gram table says of texts that the target wrote, as one pass of a model does."""

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.drafting.ngram_index import NgramIndex
from spinbench.runtime.recording.written_texts import WrittenTexts
from spinbench.workload.acceptance.agreement import MAX_AGREED, NOTHING_TO_COMPARE, agreed_run
from spinbench.workload.acceptance.ngram_model import NgramModel, contexts_before
from spinbench.workload.acceptance.probability import LOWEST
from spinbench.workload.acceptance.table import OUTSIDE_VOCABULARY, DrafterColumns


def ngram_columns(ngrams: NgramModel, texts: WrittenTexts, rollout_tokens: int = 1) -> DrafterColumns:
    """The columns of an n-gram table, which names one token and ranks no others."""
    said, code = [np.zeros(0, np.int64)], [np.zeros((0, rollout_tokens), np.int64)]
    agreed = [np.zeros(0, np.int64)]
    for row, prompt in enumerate(texts.prompts):
        tokens = texts.tokens(row)
        contexts = contexts_before(tokens, len(prompt), len(tokens), ngrams.context_tokens)
        drafted, codes = ngrams.draft(contexts, max(rollout_tokens, MAX_AGREED))
        said.append(drafted[:, 0])
        code.append(codes[:, :rollout_tokens])
        agreed.append(_agreed_with_copies(drafted[:, :MAX_AGREED], tokens, len(prompt)))
    codes, named = np.ascontiguousarray(np.concatenate(code).astype(np.uint8).T), np.concatenate(said)
    confidence = codes[0]
    right = named == texts.token_ids
    return DrafterColumns(
        rank=np.where(right, 0, OUTSIDE_VOCABULARY).astype(np.uint8),
        probability=np.where(right, confidence, LOWEST).astype(np.uint8),
        top_probability=confidence,
        rollout=codes[1:] if rollout_tokens > 1 else None,
        copy_agreed=np.concatenate(agreed).astype(np.uint8),
    )


def _agreed_with_copies(drafted: IntArray, tokens: IntArray, num_prompt_tokens: int) -> IntArray:
    """How far the drafts in front of each token of an answer agree with what a copy would say there, [answer]."""
    index = NgramIndex(tokens[:num_prompt_tokens])
    agreed = np.full(len(drafted), NOTHING_TO_COMPARE)
    for place, token in enumerate(tokens[num_prompt_tokens:].tolist()):
        copy = index.draft(MAX_AGREED, NgramIndex.MAX_ORDER, 1)
        if copy:
            agreed[place] = agreed_run(drafted[place], np.array(copy))
        index.extend([token])
    return agreed
