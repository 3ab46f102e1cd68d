"""The checks that planted bugs must not get past. Each passes on the code as it is and raises AssertionError on a bug."""

import functools
from collections.abc import Callable
from typing import Any

from spinbench.control.draft_length.tree import TreeDraftLength
from spinbench.runtime.sampling.law import Sampling
from tests.runtime import laws, recorded, serving, tiny_models

Check = Callable[[], None]
TREE = TreeDraftLength(branching=[3, 2, 1, 1])
MERGED = "merged good,poor,small_vocabulary,prompt_lookup"
FAMILY = "llama"
"""Of models in which all of these bugs show within a few requests."""
TRACE = serving.requests(6, max_new_tokens=16)
SHARED_NOISE = Sampling(laws.MODEL_SAMPLING.temperature, top_k=laws.MODEL_SAMPLING.top_k)


@functools.cache
def _plain(sampling: Sampling) -> dict[str, tuple[int, ...]]:
    record = serving.serve(tiny_models.shared(FAMILY)[0], [], TRACE, selector="plain", sampling=sampling)
    return serving.outputs(record)


def _accepted(selector: str, draft_length: int | TreeDraftLength, **decisions: Any) -> None:
    recorded.check_acceptance("greedy", selector, draft_length, FAMILY, max_num_seqs=8, **decisions)


def _lossless(sampling: Sampling, **decisions: Any) -> None:
    expected = _plain(sampling)
    target, models = tiny_models.shared(FAMILY)
    record = serving.serve(target, models, TRACE, selector="random", sampling=sampling, max_num_seqs=6, **decisions)
    assert serving.outputs(record) == expected


CHECKS: dict[str, Check] = {
    "lossless, greedy": lambda: _lossless(serving.GREEDY),
    "lossless, drafter-invariant": lambda: _lossless(serving.NUCLEUS, layout="padded"),
    "lossless, trees": lambda: _lossless(serving.GREEDY, draft_length=TREE),
    "acceptance behind drafts made ahead": lambda: _accepted("random", 2, depth="draft_while_verify"),
    "acceptance as recorded": lambda: _accepted("random", 4),
    "acceptance of trees as recorded": lambda: _accepted("random", TREE),
    "acceptance of merged drafts as recorded": lambda: _accepted(MERGED, 4),
    "known laws": lambda: laws.check_known_laws(laws.KNOWN_TARGET, laws.KNOWN_DRAFT),
    "joint law of a model": lambda: laws.check_joint_law("fixed poor"),
    "joint law of a model, drafter-invariant": lambda: laws.check_joint_law("plain", SHARED_NOISE),
}


@functools.cache
def passes(name: str) -> bool:
    """Whether a check holds on the code as it is; also computes what checks compare with."""
    CHECKS[name]()
    return True
