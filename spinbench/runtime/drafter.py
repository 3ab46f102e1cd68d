"""Drafters that draft: a small model, or a lookup in front of one."""

from typing import Protocol

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.confidence import ends_while_drafting
from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import DraftJob, TokenSpans
from spinbench.control.text import LiveText
from spinbench.models.load import DrafterModel
from spinbench.runtime.confidence import DraftConfidence
from spinbench.runtime.draft import Draft, DraftRecorder, Drafts
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.sampler import Sampler, TokenSampler
from spinbench.runtime.slot_table import Slots, SlotTable
from spinbench.runtime.text_drafter import NgramDrafter, PromptLookupDrafter
from spinbench.runtime.token_tree import SlotMoves
from spinbench.runtime.tree_drafter import draft_trees
from spinbench.runtime.upload import upload


class Drafter(Protocol):
    """Proposes tokens for a group of requests."""

    @property
    def forward_s(self) -> float:
        """Host time spent inside a model's forward so far."""
        ...

    def catch_up(self, spans: TokenSpans, slots: Slots, text: LiveText) -> None:
        """Fill in the KV of tokens that this drafter has not seen, in `slots`, which the requests may have left."""
        ...

    def score(self, spans: TokenSpans, num_scored: IntArray, text: LiveText) -> BoolArray:
        """Catch up, and say whether it would have said what stands behind each span's last `num_scored` tokens.

        Bool [requests, width], False behind a request's `num_scored`.
        """
        ...

    def move_kv(self, moves: SlotMoves) -> None:
        """Move the KV of tokens that it drafted off the first branch, and that were accepted."""
        ...

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """At most `num_speculative_tokens` tokens per request, or trees of that depth."""
        ...

    def go_on(self, job: DraftJob, newest: torch.Tensor, slots: Slots, text: LiveText) -> Drafts:
        """Chains behind drafts of its own that are being verified.

        `newest` are their last tokens, int64 [requests]; `slots` as for a catch-up.
        """
        ...


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
            trees, confidence = draft_trees(self.runner, self._sampler, self._target_ids, job, job.tree, text)
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
            drafted = self._replays.draft(job, tokens, slots, text, sure)
            if drafted is not None:
                return self._replayed(job, drafted, sure)
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

    def _replayed(self, job: DraftJob, token_ids: torch.Tensor, sure: DraftConfidence | None) -> Drafts:
        """What came of a replay, in which every draft was run to its full length: `token_ids` [requests, steps]."""
        lengths = job.num_speculative_tokens
        kept = lengths if sure is None else sure.num_kept(lengths)
        confidence = sure.means(lengths) if sure is not None and job.measure_confidence else None
        drafts = tuple(Draft(tokens[:count]) for tokens, count in zip(token_ids, kept.tolist(), strict=True))
        return Drafts(drafts, confidence, lengths)

    def _on_device(self, numbers: IntArray) -> torch.Tensor:
        return upload(numbers, self._device)

    @property
    def _device(self) -> torch.device:
        return self.runner.device


class LookupThenModelDrafter:
    """Copies for the requests that are marked so, and asks a model or an n-gram table for the others."""

    def __init__(self, lookup: PromptLookupDrafter, model: ModelDrafter | NgramDrafter) -> None:
        self._lookup = lookup
        self.model = model

    @property
    def forward_s(self) -> float:
        """Host time spent inside the model's forward so far."""
        return self.model.forward_s

    def catch_up(self, spans: TokenSpans, slots: Slots, text: LiveText) -> None:
        """The model's own."""
        self.model.catch_up(spans, slots, text)

    def score(self, spans: TokenSpans, num_scored: IntArray, text: LiveText) -> BoolArray:
        """The model's own."""
        return self.model.score(spans, num_scored, text)

    def move_kv(self, moves: SlotMoves) -> None:
        """The model's own."""
        self.model.move_kv(moves)

    def go_on(self, job: DraftJob, newest: torch.Tensor, slots: Slots, text: LiveText) -> Drafts:
        """The model's own."""
        return self.model.go_on(job, newest, slots, text)

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """Each request by the part that it is meant for, in the order of the requests."""
        of_place: dict[int, Draft] = {}
        confidence = np.zeros(len(job.spans)) if job.measure_confidence else None
        num_steps = np.zeros(len(job.spans), np.int64)
        for drafter, by_lookup in ((self._lookup, True), (self.model, False)):
            places = np.flatnonzero(job.by_lookup == by_lookup)
            if len(places):
                drafts = drafter.draft(job.only(places), text)
                of_place.update(zip(places.tolist(), drafts.of_request, strict=True))
                num_steps[places] = drafts.num_steps
                if confidence is not None:
                    confidence[places] = drafts.confidence
        return Drafts(tuple(of_place[place] for place in range(len(job.spans))), confidence, num_steps)


def with_lookup(info: DrafterInfo, drafter: ModelDrafter | NgramDrafter, device: torch.device) -> Drafter:
    """`drafter` itself, or behind a lookup where `info` copies."""
    return LookupThenModelDrafter(PromptLookupDrafter(info, device), drafter) if info.copies else drafter
