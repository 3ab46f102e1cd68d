"""The n-gram table: counting, choosing among contexts, drafting."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spinbench.models.distill.dataset import SelfPlayLine
from spinbench.models.distill.ngram import count_ngrams
from spinbench.workload.acceptance.agreement import agreed_run
from spinbench.workload.acceptance.ngram_model import NO_TOKEN, NgramModel, context_keys, contexts_before
from spinbench.workload.acceptance.probability import LOWEST, decode_probability, encode_probability


def table(*texts: list[int], prompt: int = 1, context_tokens: int = 3) -> NgramModel:
    lines = [SelfPlayLine(prompt, np.array(text)) for text in texts]
    return NgramModel("t-ngram", count_ngrams(lines, np.arange(len(lines)), context_tokens), "")


def says(model: NgramModel, *context: int) -> tuple[int, float]:
    padded = [NO_TOKEN] * (model.context_tokens - len(context)) + list(context)
    token, code = model.predict(np.array([padded]))
    return int(token[0]), float(decode_probability(code)[0])


def coded(probability: float) -> float:
    return float(decode_probability(encode_probability(probability)))


def test_the_likeliest_follower_and_how_sure_it_is():
    # 5 is followed by 6, 6, 7
    model = table([5, 6, 1, 5, 6, 2, 5, 7], context_tokens=1)
    assert says(model, 5) == (6, coded((2 - 0.5) / (3 + 0.5)))


def test_the_surest_context_decides():
    # behind 4 5 always 8 (three times), behind 5 alone 9 as often as 8
    model = table([4, 5, 8, 1, 4, 5, 8, 2, 4, 5, 8, 3, 7, 5, 9, 7, 5, 9, 7, 5, 9])
    assert says(model, 4, 5)[0] == 8
    assert says(model, 7, 5)[0] == 9
    assert says(model, 3, 5) == (8, coded((3 - 0.5) / (6 + 0.5)))  # of equals the lowest


def test_what_was_never_seen_is_said_without_confidence():
    model = table([5, 6, 7])
    token, code = model.predict(np.array([[1, 2, 3]]))
    assert (token[0], code[0]) == (0, LOWEST)


def test_prompts_are_contexts_but_no_followers():
    model = table([1, 2, 3, 4], prompt=3)
    assert says(model, 1, 2, 3)[0] == 4
    assert says(model, 1)[1] == coded(0.0)


TEXTS = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=12), min_size=1, max_size=4)


@given(TEXTS, st.lists(st.lists(st.integers(NO_TOKEN, 4), min_size=3, max_size=3), min_size=1, max_size=5))
def test_of_the_contexts_that_it_knows_the_surest_decides(texts, contexts):
    """Length by length, as one would look them up by hand; the longer one at a tie."""
    model = table(*texts)
    token, code = model.predict(np.array(contexts))
    keys = context_keys(np.array(contexts), 3)
    for place in range(len(contexts)):
        best = LOWEST, 0, 0
        for length, group in enumerate(model.groups):
            for at in np.flatnonzero(group.key == keys[length][place]):
                best = min(best, (int(group.confidence[at]), -length, int(group.token_id[at])))
        assert (code[place], token[place]) == (best[0], best[2])


@given(TEXTS, st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=5))
def test_agreed_are_the_tokens_that_its_draft_begins_with(texts, drafts):
    model = table(*texts)
    contexts = np.array([draft[:3] for draft in drafts])
    said, _ = model.draft(contexts, 4)
    assert model.agreed(contexts, np.array(drafts)).tolist() == agreed_run(said, np.array(drafts)).tolist()


def test_a_draft_feeds_itself():
    model = table([1, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    tokens, codes = model.draft(np.array([[NO_TOKEN, NO_TOKEN, 1]]), 4)
    assert tokens.tolist() == [[2, 3, 4, 5]]
    assert (codes < LOWEST).all()


def test_contexts_begin_with_no_tokens():
    assert contexts_before(np.array([7, 8, 9]), 0, 4, 2).tolist() == [[-1, -1], [-1, 7], [7, 8], [8, 9]]
    assert contexts_before(np.array([7, 8, 9]), 3, 4, 2).tolist() == [[8, 9]]


@given(st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=20), min_size=1, max_size=5))
def test_it_says_what_counting_by_hand_says(texts):
    model = table(*texts, context_tokens=2)
    for text in texts:
        for at in range(1, len(text)):
            options = []
            for length in (1, 2):
                if at >= length:
                    context = text[at - length : at]
                    followers = [
                        t[i] for t in texts for i in range(1, len(t)) if i >= length and t[i - length : i] == context
                    ]
                    best = max(sorted(set(followers)), key=followers.count)
                    sure = encode_probability((followers.count(best) - 0.5) / (len(followers) + 0.5))
                    options.append((int(sure), best))
            # the surest, at a tie the shorter: a longer one that is no surer is not kept
            expected = min(options, key=lambda option: option[0])
            token, code = model.predict(contexts_before(np.array(text), at, at + 1, 2))
            assert (code[0], token[0]) == expected
