"""A drafter that is a small model."""

from collections.abc import Sequence

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.drafting.confidence import ends_while_drafting
from spinbench.control.jobs.job import DraftJob, TokenSpans
from spinbench.control.text import LiveText
from spinbench.models.load import DrafterModel
from spinbench.runtime.draft import Draft, DraftRecorder, Drafts
from spinbench.runtime.drafters.tree import draft_trees
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.kv.slot_table import Slots, SlotTable
from spinbench.runtime.sampling.confidence import DraftConfidence
from spinbench.runtime.sampling.sampler import Sampler, TokenSampler
from spinbench.runtime.token_tree import SlotMoves
from spinbench.runtime.upload import upload


class ModelDrafter:
    """A causal LM with a KV pool of its own, batched over the group, whose sampler draws its tokens."""

    def __init__(
        self,
        drafter: DrafterModel,
        slots: SlotTable,
        sampler: TokenSampler,
        ends_early: bool | None = None,
        execution: Execution | None = None,
    ) -> None:
        """`ends_early`: run a draft no further than the job's rule lets it; None = as its device is best used."""
        execution = execution or Execution()
        self.runner = ModelRunner(drafter.model, slots, execution.attention)
        self._replays = execution.draft_replays(self.runner, sampler, drafter.target_ids, slots)
        self._target_ids = drafter.target_ids
        self._sampler = sampler
        self._ends_early = ends_while_drafting(self._device.type) if ends_early is None else ends_early

    @property
    def forward_s(self) -> float:
        """Host time spent inside the model's forward so far."""
        return self.runner.forward_s

    def catch_up(self, spans: TokenSpans, slots: Slots, text: LiveText) -> None:
        """One packed pass; no logits are computed beyond one row."""
        tokens = upload(text.span_token_ids(spans), self._device)
        self.runner.packed(spans, tokens, torch.zeros(1, dtype=torch.int64, device=self._device), slots)

    def score(self, spans: TokenSpans, num_scored: IntArray, text: LiveText) -> BoolArray:
        """One packed pass, with the logits of the scored rows."""
        own = np.arange(int(num_scored.max())) < num_scored[:, None]
        behind = np.arange(own.shape[1]) - num_scored[:, None]  # -1 is a span's last token
        rows = (np.cumsum(spans.num_tokens)[:, None] + behind)[own]
        positions = (spans.stop[:, None] + behind + 1)[own]
        tokens = upload(text.span_token_ids(spans), self._device)
        logits = self.runner.packed(spans, tokens, upload(rows, self._device))
        seeds = np.repeat(text.seeds[spans.rows], num_scored)
        # under rejection sampling a draw from its law: it says the text's token as often as it finds it likely
        said = self._sampler.draft(logits, seeds, positions, positions, self._target_ids).token_ids.cpu().numpy()
        right = np.zeros(own.shape, np.bool_)
        right[own] = said == text.span_token_ids(TokenSpans(spans.rows, spans.stop + 1 - num_scored, spans.stop + 1))
        return right

    def move_kv(self, moves: SlotMoves) -> None:
        """In its own pool."""
        self.runner.move_kv(moves)

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """The known tokens in one pass, then one row per request and step; a request whose draft ended has none.

        Where drafts do not end early, what the job's rule has ended is run all the same, and thrown away.
        """
        if job.tree is not None:
            if not isinstance(self._sampler, Sampler):
                raise TypeError("rejection sampling judges chains only")
            drafted = None if self._replays is None else self._replays.trees(job, job.tree, text)
            if drafted is None:
                drafted = draft_trees(self.runner, self._sampler, self._target_ids, job, job.tree, text)
            trees, confidence = drafted
            return Drafts(tuple(trees), confidence, job.num_speculative_tokens)
        return self._chains(job, self._on_device(text.span_token_ids(job.spans)), None, text)

    def go_on(self, job: DraftJob, newest: torch.Tensor, slots: Slots, text: LiveText) -> Drafts:
        """One row per request and step."""
        return self._chains(job, newest, slots, text)

    def _chains(self, job: DraftJob, tokens: torch.Tensor, slots: Slots | None, text: LiveText) -> Drafts:
        """Behind the `tokens` of the job's spans, int64 [rows]."""
        lengths, known = job.num_speculative_tokens, job.spans
        sure = None
        if job.stop is not None or job.measure_confidence:
            sure = DraftConfidence(len(lengths), job.stop)
        if self._replays is not None:
            drafts = self._replays.draft(job, tokens, slots, text, sure)
            if drafts is not None:
                return self._replayed(job, drafts, sure)
        steps = DraftRecorder(self._target_ids)
        num_steps = np.zeros(len(lengths), np.int64)
        requests, spans = np.arange(len(lengths)), known
        rows = self._on_device(np.cumsum(known.num_tokens) - 1)
        for step in range(int(lengths.max())):
            logits = self.runner.packed(spans, tokens, rows, slots)
            seeds, round_start = text.seeds[spans.rows], known.stop[requests]
            drafted = self._sampler.draft(logits, seeds, spans.stop, round_start, self._target_ids)
            steps.add(drafted, requests)
            num_steps[requests] += 1
            goes_on = lengths[requests] > step + 1
            if sure is not None:
                sure.add(logits, requests)
                if self._ends_early and goes_on.any():
                    goes_on &= sure.go_on(requests)
            if not goes_on.any():
                break
            tokens = drafted.token_ids
            if not goes_on.all():
                requests, tokens = requests[goes_on], tokens[self._on_device(np.flatnonzero(goes_on))]
            newest = known.stop[requests] + step
            spans = TokenSpans(known.rows[requests], newest, newest + 1)
            rows = torch.arange(len(requests), device=self._device)
        kept = lengths if sure is None else sure.num_kept(lengths)
        confidence = sure.means(lengths) if sure is not None and job.measure_confidence else None
        return Drafts(tuple(steps.drafts(kept)), confidence, num_steps)

    def _replayed(self, job: DraftJob, drafts: Sequence[Draft], sure: DraftConfidence | None) -> Drafts:
        """What came of a replay, in which every draft was run to its full length."""
        lengths = job.num_speculative_tokens
        kept = lengths if sure is None else sure.num_kept(lengths)
        confidence = sure.means(lengths) if sure is not None and job.measure_confidence else None
        cut = tuple(draft.first(count) for draft, count in zip(drafts, kept.tolist(), strict=True))
        return Drafts(cut, confidence, lengths)

    def _on_device(self, numbers: IntArray) -> torch.Tensor:
        return upload(numbers, self._device)

    @property
    def _device(self) -> torch.device:
        return self.runner.device
