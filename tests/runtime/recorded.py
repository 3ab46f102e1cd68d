"""The texts of a small run on tiny models, and their acceptance table: one teacher-forced pass per drafter."""

import functools
from dataclasses import replace
from typing import Any

import numpy as np

from spinbench.control.draft_length.tree import TreeDraftLength
from spinbench.control.records.run_record import RunRecord
from spinbench.models.distill.dataset import SelfPlayLine
from spinbench.models.distill.ngram import count_ngrams
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.runtime.recording.ngram_columns import ngram_columns
from spinbench.runtime.recording.teacher_forcing import score_texts
from spinbench.runtime.recording.written_texts import WrittenTexts
from spinbench.workload.acceptance.from_table import streams_from_table
from spinbench.workload.acceptance.lookup import lookup_columns
from spinbench.workload.acceptance.ngram_model import NgramModel
from spinbench.workload.acceptance.table import AcceptanceTable, RecordedRequests
from spinbench.workload.acceptance.walk import walk
from tests.runtime import serving, tiny_models
from tests.workload.acceptance.made_table import meta

TRACE = serving.requests(8, max_new_tokens=24)
ROLLOUT_TOKENS = 5
SAMPLINGS = serving.SAMPLINGS


def models(family: str = tiny_models.QUICK) -> tuple[TargetModel, list[DrafterModel]]:
    """The target ends at tokens that it says in the midst of some answers, and its drafters."""
    return _models(family)


@functools.cache
def _models(family: str) -> tuple[TargetModel, list[DrafterModel]]:
    target, drafters = tiny_models.shared(family)
    ends = set()
    for sampling in SAMPLINGS.values():
        answers = serving.outputs(serving.serve(target, [], TRACE, selector="plain", sampling=sampling))
        for name, place in (("r1", 9), ("r5", 7)):
            answer = answers[name]
            # one that repeats itself would end at once at what it says there: at what it says first last of all instead
            ends.add(max(answer[:-1], key=answer.index) if family == tiny_models.QUICK else answer[place])
    return replace(target, eos_token_ids=frozenset(ends)), drafters


def ngrams(family: str = tiny_models.QUICK) -> NgramModel:
    """Counted from every second answer, so that it is right and sure for some, wrong or without a word for others."""
    return _ngrams(family)


@functools.cache
def _ngrams(family: str) -> NgramModel:
    lines = []
    for sampling in SAMPLINGS:
        answers = serving.outputs(plain(sampling, family))
        for request in TRACE[::2]:
            prompt = request.prompt_token_ids or ()
            lines.append(SelfPlayLine(len(prompt), np.array([*prompt, *answers[request.id]])))
    return NgramModel("tiny-ngram", count_ngrams(lines, np.arange(len(lines)), 3), "4" * 64)


def plain(sampling: str, family: str = tiny_models.QUICK) -> RunRecord:
    return _plain(sampling, family)


@functools.cache
def _plain(sampling: str, family: str) -> RunRecord:
    return serving.serve(models(family)[0], [], TRACE, selector="plain", sampling=SAMPLINGS[sampling])


def texts(sampling: str, family: str = tiny_models.QUICK) -> WrittenTexts:
    answers = serving.outputs(plain(sampling, family))
    lengths = [len(answers[request.id]) for request in TRACE]
    return WrittenTexts(
        [request.prompt_token_ids or () for request in TRACE],
        np.concatenate([answers[request.id] for request in TRACE]).astype(np.int64),
        np.cumsum([0, *lengths]).astype(np.int64),
        np.array([request.seed for request in TRACE]),
        np.array([request.max_new_tokens for request in TRACE]),
    )


def table(sampling: str, family: str = tiny_models.QUICK) -> AcceptanceTable:
    return _table(sampling, family)


@functools.cache
def _table(sampling: str, family: str) -> AcceptanceTable:
    written, drafters, ngram_model = texts(sampling, family), models(family)[1], ngrams(family)
    reasons = {request.request_id: request.finish_reason for request in plain(sampling, family).requests}
    lookup = lookup_columns(written.prompts, written.token_ids.astype(np.int32), written.offsets)
    return AcceptanceTable(
        meta(
            [*(model.name for model in drafters), ngram_model.name], rollout_tokens=ROLLOUT_TOKENS, lookup_agreed=True
        ),
        RecordedRequests(
            tuple(request.id for request in TRACE),
            np.array([len(prompt) for prompt in written.prompts]),
            np.array([request.max_new_tokens for request in TRACE]),
            np.array([reasons[request.id] == "stop" for request in TRACE]),
            np.array([request.ignore_eos for request in TRACE]),
            written.seeds,
            (None,) * len(TRACE),
            written.offsets,
        ),
        written.token_ids.astype(np.int32),
        lookup.match_order,
        lookup.lookup_run,
        {
            model.name: score_texts(model, written, SAMPLINGS[sampling], rollout_tokens=ROLLOUT_TOKENS)
            for model in drafters
        }
        | {ngram_model.name: ngram_columns(ngram_model, written, ROLLOUT_TOKENS)},
        lookup_agreed=lookup.lookup_agreed,
    )


def check_acceptance(
    sampling: str,
    selector: str,
    draft_length: int | TreeDraftLength,
    family: str = tiny_models.QUICK,
    **decisions: Any,
) -> None:
    """Every round of a run drafts and accepts what the table says of its drafter at its place."""
    target, drafters = models(family)
    told = table(sampling, family)
    record = serving.serve(
        target, drafters, TRACE, selector=selector, draft_length=draft_length, sampling=SAMPLINGS[sampling],
        **decisions,
    )  # fmt: skip
    tree = draft_length.tree if isinstance(draft_length, TreeDraftLength) else None
    most = draft_length if isinstance(draft_length, int) else draft_length.max_num_speculative_tokens
    infos = serving.drafter_infos(drafters)
    streams = streams_from_table(told, TRACE, [info.name for info in infos])
    row_of = {request.id: row for row, request in enumerate(TRACE)}
    rounds = record.rounds
    rows = np.array([row_of[rounds.request_ids[row]] for row in rounds.row.tolist()])
    emitted = rounds.context_tokens - told.requests.prompt_tokens[rows]
    assert (emitted < np.diff(told.requests.offsets)[rows]).all(), "more is said than was recorded"
    order = streams.match_order_at(rows, emitted)
    assert order.tolist() == rounds.lookup_match_order.tolist()
    # what is drafted ahead comes from the model, also where a drafter would have copied
    starts_s = record.spans.start_s[[kind == "draft_ahead" for kind in record.spans.kind]]
    ahead = np.isin(rounds.draft_start_s, starts_s)
    best = np.zeros_like(emitted)
    for index, info in enumerate(infos):
        by_lookup = info.drafts_by_lookup(order) & ~(ahead & info.has_kv_cache)
        bounds = (info.max_match_tokens, info.min_match_tokens)
        run = streams.accepted_run(rows, emitted, index, by_lookup, *bounds)
        if tree is not None and info.has_kv_cache:
            run = np.where(by_lookup, run, streams.accepted_depth(rows, emitted, index, tree.branching))
        run = np.minimum(run, most)
        if info.name in selector.removeprefix("merged ").split(","):
            best = np.maximum(best, run)
        by = rounds.drafter == index
        found = ~by_lookup | streams.lookup_finds(rows, emitted, *bounds)
        assert (rounds.drafted[by] > 0).tolist() == (found & (rounds.num_speculative_tokens > 0))[by].tolist()
        assert run[by].tolist() == rounds.accepted[by].tolist()
        if selector == f"fixed {info.name}" and tree is None:  # and the rounds are those of the walk, without an engine
            walked = walk(streams, index, most, info.drafts_by_lookup, *bounds)
            for row in range(len(TRACE)):
                assert walked.accepted[walked.row == row].tolist() == rounds.accepted[rows == row].tolist()
    merged = rounds.drafter == len(infos)
    assert best[merged].tolist() == rounds.accepted[merged].tolist()
    assert (rounds.accepted[rounds.drafter < 0] == 0).all()
