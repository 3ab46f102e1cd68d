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
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.sampler import Sampler
from spinbench.runtime.slot_table import SlotTable


@dataclass(frozen=True, slots=True)
class Drafts:
    """Drafted target token ids, one int64 tensor [drafted] per request, and the drafter's confidence if measured."""

    token_ids: tuple[torch.Tensor, ...]
    confidence: FloatArray | None = None


class Drafter(Protocol):
    """Proposes tokens for a group of requests."""

    @property
    def forward_s(self) -> float:
        """Host time spent inside a model's forward so far."""
        ...

    def catch_up(self, spans: TokenSpans, text: LiveText) -> None:
        """Fill in the KV of tokens that this drafter has not seen."""
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
    """A causal LM with a KV pool of its own, drafting greedily or with the target's noise, batched over the group."""

    def __init__(self, drafter: DrafterModel, slots: SlotTable, sampler: Sampler) -> None:
        self.runner = ModelRunner(drafter.model, slots)
        self._target_ids = drafter.target_ids
        self._sampler = sampler

    @property
    def forward_s(self) -> float:
        """Host time spent inside the model's forward so far."""
        return self.runner.forward_s

    def catch_up(self, spans: TokenSpans, text: LiveText) -> None:
        """One packed pass; no logits are computed beyond one row."""
        tokens = torch.from_numpy(text.span_token_ids(spans)).to(self._device)
        self.runner.packed(spans, tokens, torch.zeros(1, dtype=torch.int64, device=self._device))

    def score(self, spans: TokenSpans, num_scored: IntArray, text: LiveText) -> BoolArray:
        """One packed pass, with the logits of the scored rows."""
        own = np.arange(int(num_scored.max())) < num_scored[:, None]
        behind = np.arange(own.shape[1]) - num_scored[:, None]  # -1 is a span's last token
        rows = (np.cumsum(spans.num_tokens)[:, None] + behind)[own]
        positions = (spans.stop[:, None] + behind + 1)[own]
        tokens = torch.from_numpy(text.span_token_ids(spans)).to(self._device)
        logits = self.runner.packed(spans, tokens, torch.from_numpy(rows).to(self._device))
        seeds = np.repeat(text.seeds[spans.rows], num_scored)
        said = self._sampler.draft_tokens(logits, seeds, positions, self._target_ids).cpu().numpy()
        right = np.zeros(own.shape, np.bool_)
        right[own] = said == text.span_token_ids(TokenSpans(spans.rows, spans.stop + 1 - num_scored, spans.stop + 1))
        return right

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """The known tokens in one pass, then one row per request and step; longer drafts outlast shorter ones."""
        # by falling K, so that the requests still drafting at a step are the first rows
        order = np.argsort(-job.num_speculative_tokens, kind="stable")
        lengths = job.num_speculative_tokens[order]
        spans = TokenSpans(job.spans.rows[order], job.spans.start[order], job.spans.stop[order])
        seeds = text.seeds[spans.rows]
        tokens = torch.from_numpy(text.span_token_ids(spans)).to(self._device)
        rows = torch.from_numpy(np.cumsum(spans.num_tokens) - 1).to(self._device)
        steps: list[torch.Tensor] = []
        confidences: list[torch.Tensor] = []
        for step in range(int(lengths[0])):
            active = int(np.count_nonzero(lengths > step))
            if step > 0:
                spans = TokenSpans(spans.rows[:active], spans.stop[:active], spans.stop[:active] + 1)
                tokens = steps[-1][:active]
                rows = torch.arange(active, device=self._device)
            logits = self.runner.packed(spans, tokens, rows)
            steps.append(self._sampler.draft_tokens(logits, seeds[:active], spans.stop, self._target_ids))
            if job.measure_confidence:
                confidences.append((logits.max(-1).values - logits.logsumexp(-1)).exp().float())
        drafted: list[torch.Tensor] = [steps[0][:0]] * len(order)
        means = [0.0] * len(order)
        for place, index in enumerate(order.tolist()):
            drafted[index] = torch.stack([step[place] for step in steps[: lengths[place]]])
            if job.measure_confidence:
                means[index] = float(torch.stack([step[place] for step in confidences[: lengths[place]]]).mean())
        return Drafts(tuple(drafted), np.array(means) if job.measure_confidence else None)

    @property
    def _device(self) -> torch.device:
        return self.runner.device


class PromptLookupDrafter:
    """Copies what followed the same n-gram earlier in the request; the rule itself is `control.ngram_index`."""

    def __init__(self, info: DrafterInfo, device: torch.device) -> None:
        self._info = info
        self._device = device

    @property
    def forward_s(self) -> float:
        """No model, no forward."""
        return 0.0

    def catch_up(self, spans: TokenSpans, text: LiveText) -> None:
        """Nothing: the request's own index has seen every token."""

    def score(self, spans: TokenSpans, num_scored: IntArray, text: LiveText) -> BoolArray:
        """Never asked: control reads what a lookup would have said off the text."""
        raise TypeError("prompt lookup has no model to be asked")

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """Up to K copied tokens per request, none where nothing matches; its confidence is 1 or 0."""
        info = self._info
        found = [
            text.lookup(row, length, info.max_match_tokens, info.min_match_tokens)
            for row, length in zip(job.spans.rows.tolist(), job.num_speculative_tokens.tolist(), strict=True)
        ]
        tensors = tuple(torch.tensor(tokens, dtype=torch.int64, device=self._device) for tokens in found)
        return Drafts(tensors, np.array([float(bool(tokens)) for tokens in found]) if job.measure_confidence else None)


class LookupThenModelDrafter:
    """Copies for the requests that are marked so, and runs a model for the others."""

    def __init__(self, lookup: PromptLookupDrafter, model: ModelDrafter) -> None:
        self._lookup = lookup
        self._model = model

    @property
    def forward_s(self) -> float:
        """Host time spent inside the model's forward so far."""
        return self._model.forward_s

    def catch_up(self, spans: TokenSpans, text: LiveText) -> None:
        """The model's own."""
        self._model.catch_up(spans, text)

    def score(self, spans: TokenSpans, num_scored: IntArray, text: LiveText) -> BoolArray:
        """The model's own."""
        return self._model.score(spans, num_scored, text)

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """Each request by the part that it is meant for, in the order of the requests."""
        token_ids: dict[int, torch.Tensor] = {}
        confidence = np.zeros(len(job.spans)) if job.measure_confidence else None
        for drafter, by_lookup in ((self._lookup, True), (self._model, False)):
            places = np.flatnonzero(job.by_lookup == by_lookup)
            if len(places):
                drafts = drafter.draft(job.only(places), text)
                token_ids.update(zip(places.tolist(), drafts.token_ids, strict=True))
                if confidence is not None:
                    confidence[places] = drafts.confidence
        return Drafts(tuple(token_ids[place] for place in range(len(job.spans))), confidence)
