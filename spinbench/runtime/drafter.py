"""Drafters that draft: a small model, or prompt lookup."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import DraftJob, TokenSpans
from spinbench.control.text import LiveText
from spinbench.models.load import DrafterModel
from spinbench.runtime.draft import Draft, DraftRecorder
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.sampler import TokenSampler
from spinbench.runtime.slot_table import Slots, SlotTable
from spinbench.workload.acceptance.ngram_model import NgramModel


@dataclass(frozen=True, slots=True)
class Drafts:
    """One draft per request, and the drafter's confidence if measured."""

    of_request: tuple[Draft, ...]
    confidence: FloatArray | None = None


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

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """At most `num_speculative_tokens` tokens per request."""
        ...


class ModelDrafter:
    """A causal LM with a KV pool of its own, batched over the group, whose sampler draws its tokens."""

    def __init__(self, drafter: DrafterModel, slots: SlotTable, sampler: TokenSampler) -> None:
        self.runner = ModelRunner(drafter.model, slots)
        self._target_ids = drafter.target_ids
        self._sampler = sampler

    @property
    def forward_s(self) -> float:
        """Host time spent inside the model's forward so far."""
        return self.runner.forward_s

    def catch_up(self, spans: TokenSpans, slots: Slots, text: LiveText) -> None:
        """One packed pass; no logits are computed beyond one row."""
        tokens = torch.from_numpy(text.span_token_ids(spans)).to(self._device)
        self.runner.packed(spans, tokens, torch.zeros(1, dtype=torch.int64, device=self._device), slots)

    def score(self, spans: TokenSpans, num_scored: IntArray, text: LiveText) -> BoolArray:
        """One packed pass, with the logits of the scored rows."""
        own = np.arange(int(num_scored.max())) < num_scored[:, None]
        behind = np.arange(own.shape[1]) - num_scored[:, None]  # -1 is a span's last token
        rows = (np.cumsum(spans.num_tokens)[:, None] + behind)[own]
        positions = (spans.stop[:, None] + behind + 1)[own]
        tokens = torch.from_numpy(text.span_token_ids(spans)).to(self._device)
        logits = self.runner.packed(spans, tokens, torch.from_numpy(rows).to(self._device))
        seeds = np.repeat(text.seeds[spans.rows], num_scored)
        # under rejection sampling a draw from its law: it says the text's token as often as it finds it likely
        said = self._sampler.draft(logits, seeds, positions, positions, self._target_ids).token_ids.cpu().numpy()
        right = np.zeros(own.shape, np.bool_)
        right[own] = said == text.span_token_ids(TokenSpans(spans.rows, spans.stop + 1 - num_scored, spans.stop + 1))
        return right

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """The known tokens in one pass, then one row per request and step; longer drafts outlast shorter ones."""
        # by falling K, so that the requests still drafting at a step are the first rows
        order = np.argsort(-job.num_speculative_tokens, kind="stable")
        lengths = job.num_speculative_tokens[order]
        spans = TokenSpans(job.spans.rows[order], job.spans.start[order], job.spans.stop[order])
        seeds, round_start = text.seeds[spans.rows], spans.stop
        tokens = torch.from_numpy(text.span_token_ids(spans)).to(self._device)
        rows = torch.from_numpy(np.cumsum(spans.num_tokens) - 1).to(self._device)
        steps = DraftRecorder(self._target_ids)
        confidences: list[torch.Tensor] = []
        for step in range(int(lengths[0])):
            active = int(np.count_nonzero(lengths > step))
            if step > 0:
                spans = TokenSpans(spans.rows[:active], spans.stop[:active], spans.stop[:active] + 1)
                tokens = tokens[:active]
                rows = torch.arange(active, device=self._device)
            logits = self.runner.packed(spans, tokens, rows)
            drafted = self._sampler.draft(logits, seeds[:active], spans.stop, round_start[:active], self._target_ids)
            steps.add(drafted)
            tokens = drafted.token_ids
            if job.measure_confidence:
                confidences.append((logits.max(-1).values - logits.logsumexp(-1)).exp().float())
        by_length = steps.drafts(lengths)
        back = np.argsort(order)
        means = None
        if job.measure_confidence:
            of_place = [
                float(torch.stack([step[place] for step in confidences[:length]]).mean())
                for place, length in enumerate(lengths.tolist())
            ]
            means = np.array(of_place)[back]
        return Drafts(tuple(by_length[place] for place in back.tolist()), means)

    @property
    def _device(self) -> torch.device:
        return self.runner.device


class TextDrafter:
    """A drafter without a network or a KV cache, which reads off the text all that it needs."""

    @property
    def forward_s(self) -> float:
        """No network, no forward."""
        return 0.0

    def catch_up(self, spans: TokenSpans, slots: Slots, text: LiveText) -> None:
        """Nothing: the text is all there."""

    def score(self, spans: TokenSpans, num_scored: IntArray, text: LiveText) -> BoolArray:
        """Never asked: control itself reads what it would have said off the text."""
        raise TypeError(f"{type(self).__name__} has no network to be asked")


class PromptLookupDrafter(TextDrafter):
    """Copies what followed the same n-gram earlier in the request; the rule itself is `control.ngram_index`."""

    def __init__(self, info: DrafterInfo, device: torch.device) -> None:
        self._info = info
        self._device = device

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """Up to K copied tokens per request, none where nothing matches; its confidence is 1 or 0."""
        info = self._info
        found = [
            text.lookup(row, length, info.max_match_tokens, info.min_match_tokens)
            for row, length in zip(job.spans.rows.tolist(), job.num_speculative_tokens.tolist(), strict=True)
        ]
        drafts = tuple(Draft(torch.tensor(tokens, dtype=torch.int64, device=self._device)) for tokens in found)
        return Drafts(drafts, np.array([float(bool(tokens)) for tokens in found]) if job.measure_confidence else None)


class NgramDrafter(TextDrafter):
    """Names what most often followed the newest tokens in texts of the target; the rule is `NgramModel`."""

    def __init__(self, model: NgramModel, device: torch.device) -> None:
        self.model = model
        self._device = device

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """K tokens per request; a law that names one token is sure of it, so that rejection knows it for certain."""
        lengths = job.num_speculative_tokens
        tokens, confidence = self.model.draft(
            text.context_ends(job.spans.rows, self.model.context_tokens), int(lengths.max())
        )
        on_device = torch.from_numpy(tokens).to(self._device)
        drafts = tuple(Draft(on_device[place, :length]) for place, length in enumerate(lengths.tolist()))
        if not job.measure_confidence:
            return Drafts(drafts)
        own = np.arange(tokens.shape[1]) < lengths[:, None]
        return Drafts(drafts, np.where(own, confidence, 0.0).sum(1) / lengths)


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

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """Each request by the part that it is meant for, in the order of the requests."""
        of_place: dict[int, Draft] = {}
        confidence = np.zeros(len(job.spans)) if job.measure_confidence else None
        for drafter, by_lookup in ((self._lookup, True), (self.model, False)):
            places = np.flatnonzero(job.by_lookup == by_lookup)
            if len(places):
                drafts = drafter.draft(job.only(places), text)
                of_place.update(zip(places.tolist(), drafts.of_request, strict=True))
                if confidence is not None:
                    confidence[places] = drafts.confidence
        return Drafts(tuple(of_place[place] for place in range(len(job.spans))), confidence)


def with_lookup(info: DrafterInfo, drafter: ModelDrafter | NgramDrafter, device: torch.device) -> Drafter:
    """`drafter` itself, or behind a lookup where `info` copies."""
    return LookupThenModelDrafter(PromptLookupDrafter(info, device), drafter) if info.copies else drafter
