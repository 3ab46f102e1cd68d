"""One pass of a drafter over texts that the target wrote: how it would have done at every position."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.job import TokenSpans
from spinbench.models.free_memory import free_bytes
from spinbench.models.loaded_model import DrafterModel
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.kv.slot_table import SlotTable
from spinbench.runtime.out_of_memory import TooLittleMemory, if_it_fits
from spinbench.runtime.recording.rollout import Rollouts
from spinbench.runtime.recording.target_token_scores import TargetTokenScores
from spinbench.runtime.recording.written_texts import WrittenTexts
from spinbench.runtime.sampling.sampler import Sampling
from spinbench.runtime.upload import upload
from spinbench.workload.acceptance.probability import encode_probability
from spinbench.workload.acceptance.table import DrafterColumns

LOG = logging.getLogger(__name__)
BLOCK_SIZE = 16
SCORED_ROWS = 64
"""Rows whose scores are looked at together: noise and comparison take several tensors of [rows, vocab]."""


@dataclass(frozen=True, slots=True)
class PassLimits:
    """How much of the texts goes through the model together. A longer text takes several passes."""

    max_tokens: int = 4096
    max_logit_rows: int = 512
    """Rows of answers, for each of which there are logits over the vocabulary."""

    @property
    def halved(self) -> "PassLimits":
        """Half of each, at least one."""
        return PassLimits(max(1, self.max_tokens // 2), max(1, self.max_logit_rows // 2))


def score_texts(
    drafter: DrafterModel,
    texts: WrittenTexts,
    sampling: Sampling,
    limits: PassLimits | None = None,
    on_progress: Callable[[int], None] | None = None,
    rollout_tokens: int = 1,
) -> DrafterColumns:
    """The drafter's columns of an acceptance table for all positions of `texts`.

    The context of each position is the target's own text, which is what the drafter sees as long as its draft is right.
    Rank 0 is exactly where it drafts the target's token, by its likeliest token, or at temperature > 0 by the score
    perturbed with the target's noise (arXiv 2408.07978). Probabilities are those of its logits, without temperature and
    noise. `rollout_tokens` is how many tokens of its own drafts are judged by their probability: one pass more for each
    beyond the first, over the positions where a draft leaves the text. `on_progress` is told the positions scored so
    far. Where a device has too little memory, passes have half as many tokens from the text on that did not fit.
    Raises UserError when a logit is not a number, TooLittleMemory where not even passes of one token fit.
    """
    limits, scoring = limits or PassLimits(), _Scoring(drafter, texts, sampling, on_progress, rollout_tokens)
    while if_it_fits(partial(scoring.run, limits)) is None:
        what = f"out of memory where drafter {drafter.name!r} reads texts, {limits.max_tokens} tokens a pass"
        if limits.max_tokens == 1:
            free = free_bytes(drafter.model.device) / 1e9
            raise TooLittleMemory(
                f"{what}, {free:.1f} GB free; lower kv.gpu_memory_utilization, kv.num_blocks or "
                "trace.max_prompt_tokens, or record this drafter by itself (merge)"
            )
        limits = limits.halved
        LOG.warning("%s: %d from now on", what, limits.max_tokens)
    return scoring.columns()


class _Scoring:
    """What was scored so far."""

    def __init__(
        self,
        drafter: DrafterModel,
        texts: WrittenTexts,
        sampling: Sampling,
        on_progress: Callable[[int], None] | None,
        rollout_tokens: int,
    ) -> None:
        self._drafter = drafter
        self._texts = texts
        self._on_progress = on_progress
        self._rollout_tokens = rollout_tokens
        self._scorer = TargetTokenScores(drafter, sampling)
        self._rollouts: Rollouts | None = None
        if rollout_tokens > 1:
            self._rollouts = Rollouts(self._scorer.sampler, texts, rollout_tokens, drafter.target_ids)
        count = int(texts.offsets[-1])
        self._rank = np.zeros(count, np.uint8)
        self._probability, self._top = np.zeros((2, count))
        self._num_done = 0
        """Texts that are scored to their end."""
        self._num_told = 0

    def run(self, limits: PassLimits) -> None:
        """Score all texts that are not done. Of one that was begun before, the same numbers are found again."""
        texts, rollouts = self._texts, self._rollouts
        passes = list(_passes(texts, limits, self._num_done))
        own_slots = Rollouts.num_slots(self._rollout_tokens)
        num_blocks = max((_num_blocks(spans) for spans in passes), default=1)
        slots = SlotTable(num_blocks + -(-own_slots // BLOCK_SIZE), BLOCK_SIZE)
        runner = ModelRunner(self._drafter.model, slots)
        beside_texts = len(texts.prompts)
        slots.hold(beside_texts, own_slots, own_slots)
        with torch.inference_mode():
            for spans in passes:
                answers = _answer_rows(spans, texts)
                logits = _logits(runner, slots, spans, texts, answers.logit_rows)
                for first in range(0, len(answers.positions), SCORED_ROWS):
                    self._score(logits[first : first + SCORED_ROWS], answers, slice(first, first + SCORED_ROWS))
                ends = zip(spans.rows.tolist(), spans.stop.tolist(), strict=True)
                ended = [row for row, stop in ends if stop == _num_fed(texts, row)]
                if rollouts is not None:
                    own = slots.slots(beside_texts, 0, own_slots)
                    rollouts.run(ended, runner, slots, own, limits.max_logit_rows)
                for row in ended:
                    slots.release(row)
                self._num_done += len(ended)
                self._tell(answers)

    def columns(self) -> DrafterColumns:
        """Of all texts."""
        first = encode_probability(self._top)
        rollout = None if self._rollouts is None else self._rollouts.codes(self._rank == 0, first)
        return DrafterColumns(self._rank, encode_probability(self._probability), first, rollout)

    def _score(self, logits: torch.Tensor, answers: "_AnswerRows", part: slice) -> None:
        texts, at = self._texts, answers.positions[part]
        scores = self._scorer.score(logits, texts.token_ids[at], texts.seeds[answers.rows[part]], answers.places[part])
        self._rank[at], self._probability[at], self._top[at], drafted = scores
        if self._rollouts is not None:
            self._rollouts.first(at, drafted)

    def _tell(self, answers: "_AnswerRows") -> None:
        if self._on_progress and len(answers.positions):
            self._num_told = max(self._num_told, int(answers.positions[-1]) + 1)
            self._on_progress(self._num_told)


def _passes(texts: WrittenTexts, limits: PassLimits, first_row: int) -> Iterator[TokenSpans]:
    """Spans of consecutive requests from one on, each pass within the limits; an answer's last token is never fed."""
    pass_: list[tuple[int, int, int]] = []
    tokens = logit_rows = 0
    for row, prompt in enumerate(texts.prompts[first_row:], first_row):
        first_logit = len(prompt) - 1
        end = _num_fed(texts, row)
        start = 0
        while start < end:
            stop = min(end, start + limits.max_tokens, max(start, first_logit) + limits.max_logit_rows)
            own_rows = max(0, stop - max(start, first_logit))
            too_much = tokens + stop - start > limits.max_tokens or logit_rows + own_rows > limits.max_logit_rows
            # the rest of a text waits for the pass that runs its beginning
            if pass_ and (too_much or pass_[-1][0] == row):
                yield TokenSpans(*np.array(pass_, np.int64).T)
                pass_, tokens, logit_rows = [], 0, 0
            pass_.append((row, start, stop))
            tokens, logit_rows = tokens + stop - start, logit_rows + own_rows
            start = stop
    if pass_:
        yield TokenSpans(*np.array(pass_, np.int64).T)


def _num_fed(texts: WrittenTexts, row: int) -> int:
    """Tokens of a text that a model reads: all but the last."""
    return len(texts.prompts[row]) + int(texts.offsets[row + 1] - texts.offsets[row]) - 1


def _num_blocks(spans: TokenSpans) -> int:
    """KV blocks that a pass needs; what earlier passes left is of its first request at the most."""
    return int((-(-spans.stop // BLOCK_SIZE)).sum())


@dataclass(frozen=True, slots=True)
class _AnswerRows:
    """The rows of a pass that predict a token of an answer."""

    logit_rows: IntArray
    """Where they are among the rows of the pass."""
    rows: IntArray
    """Their requests."""
    places: IntArray
    """Place of the predicted token in prompt and answer."""
    positions: IntArray
    """Its position among all answers'."""


def _answer_rows(spans: TokenSpans, texts: WrittenTexts) -> _AnswerRows:
    lengths = spans.num_tokens
    rows = np.repeat(spans.rows, lengths)
    places = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths - spans.start, lengths) + 1
    prompt_tokens = np.array([len(texts.prompts[row]) for row in spans.rows.tolist()], np.int64)
    answer_places = places - np.repeat(prompt_tokens, lengths)
    predicts = np.flatnonzero(answer_places >= 0)
    positions = texts.offsets[rows[predicts]] + answer_places[predicts]
    return _AnswerRows(predicts, rows[predicts], places[predicts], positions)


def _logits(
    runner: ModelRunner, slots: SlotTable, spans: TokenSpans, texts: WrittenTexts, logit_rows: IntArray
) -> torch.Tensor:
    """Logits [len(logit_rows), vocab] of a pass, whose KV is kept."""
    parts: list[IntArray] = []
    for row, start, stop in zip(spans.rows.tolist(), spans.start.tolist(), spans.stop.tolist(), strict=True):
        tokens = texts.tokens(row)
        parts.append(tokens[start:stop])
        slots.hold(row, stop, len(tokens) - 1)
    token_ids = upload(np.concatenate(parts), runner.device)
    # a pass inside a long prompt predicts nothing of the answer, but a model must give the logits of some row
    asked = logit_rows if len(logit_rows) else np.zeros(1, np.int64)
    return runner.packed(spans, token_ids, upload(asked, runner.device))
