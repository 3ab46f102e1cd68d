"""Drafters that draft: a small model, or prompt lookup."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import DraftItem, TokenSpan
from spinbench.models.load import DrafterModel
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.sampler import Sampler


@dataclass(frozen=True, slots=True)
class Drafts:
    """Drafted target token ids, one int64 tensor [drafted] per item, and the drafter's confidence if measured."""

    token_ids: tuple[torch.Tensor, ...]
    confidence: tuple[float, ...] | None = None


class Drafter(Protocol):
    """Proposes tokens for a group of requests."""

    @property
    def forward_s(self) -> float:
        """Host time spent inside a model's forward so far."""
        ...

    def catch_up(self, spans: Sequence[TokenSpan]) -> None:
        """Fill in the KV of tokens that this drafter has not seen."""
        ...

    def draft(self, items: Sequence[DraftItem], measure_confidence: bool) -> Drafts:
        """At most `num_speculative_tokens` tokens per item."""
        ...


class ModelDrafter:
    """A causal LM with a KV pool of its own, drafting greedily or with the target's noise, batched over the group."""

    def __init__(self, drafter: DrafterModel, num_slots: int, sampler: Sampler) -> None:
        self.runner = ModelRunner(drafter.model, num_slots)
        self._target_ids = drafter.target_ids
        self._sampler = sampler

    @property
    def forward_s(self) -> float:
        """Host time spent inside the model's forward so far."""
        return self.runner.forward_s

    def catch_up(self, spans: Sequence[TokenSpan]) -> None:
        """One packed pass; no logits are computed beyond one row."""
        self.runner.packed(spans, self._known_tokens(spans), torch.zeros(1, dtype=torch.int64, device=self._device))

    def draft(self, items: Sequence[DraftItem], measure_confidence: bool) -> Drafts:
        """The known tokens in one pass, then one row per request and step; longer drafts outlast shorter ones."""
        # by falling K, so that the requests still drafting at a step are the first rows
        order = sorted(range(len(items)), key=lambda index: -items[index].num_speculative_tokens)
        spans = [items[index].span for index in order]
        lengths = [items[index].num_speculative_tokens for index in order]
        seeds = [span.state.request.seed for span in spans]
        last_rows = np.cumsum([span.num_tokens for span in spans]) - 1
        tokens = self._known_tokens(spans)
        rows = torch.from_numpy(last_rows).to(self._device)
        steps: list[torch.Tensor] = []
        confidences: list[torch.Tensor] = []
        for step in range(lengths[0]):
            active = sum(length > step for length in lengths)
            if step > 0:
                spans = [TokenSpan(s.state, s.stop, s.stop + 1) for s in spans[:active]]
                tokens = steps[-1][:active]
                rows = torch.arange(active, device=self._device)
            logits = self.runner.packed(spans, tokens, rows)
            positions = [span.stop for span in spans]
            steps.append(self._sampler.draft_tokens(logits, seeds[:active], positions, self._target_ids))
            if measure_confidence:
                confidences.append((logits.max(-1).values - logits.logsumexp(-1)).exp().float())
        drafted: list[torch.Tensor] = [steps[0][:0]] * len(items)
        for row, index in enumerate(order):
            drafted[index] = torch.stack([step[row] for step in steps[: lengths[row]]])
        if not measure_confidence:
            return Drafts(tuple(drafted))
        means = [0.0] * len(items)
        for row, index in enumerate(order):
            means[index] = float(torch.stack([step[row] for step in confidences[: lengths[row]]]).mean())
        return Drafts(tuple(drafted), tuple(means))

    @property
    def _device(self) -> torch.device:
        return self.runner.device

    def _known_tokens(self, spans: Sequence[TokenSpan]) -> torch.Tensor:
        tokens = np.concatenate([span.state.token_ids(span.start, span.stop) for span in spans])
        return torch.from_numpy(tokens).to(self._device)


class PromptLookupDrafter:
    """Copies what followed the same n-gram earlier in the request; the rule itself is `control.ngram_index`."""

    def __init__(self, info: DrafterInfo, device: torch.device) -> None:
        self._info = info
        self._device = device

    @property
    def forward_s(self) -> float:
        """No model, no forward."""
        return 0.0

    def catch_up(self, spans: Sequence[TokenSpan]) -> None:
        """Nothing: the request's own index has seen every token."""

    def draft(self, items: Sequence[DraftItem], measure_confidence: bool) -> Drafts:
        """Up to K copied tokens per item, none where nothing matches; its confidence is 1 or 0."""
        info = self._info
        found = [
            item.span.state.ngrams.draft(item.num_speculative_tokens, info.max_match_tokens, info.min_match_tokens)
            for item in items
        ]
        tensors = tuple(torch.tensor(tokens, dtype=torch.int64, device=self._device) for tokens in found)
        return Drafts(tensors, tuple(float(bool(tokens)) for tokens in found) if measure_confidence else None)


class LookupThenModelDrafter:
    """Copies for the items that are marked so, and runs a model for the others."""

    def __init__(self, lookup: PromptLookupDrafter, model: ModelDrafter) -> None:
        self._lookup = lookup
        self._model = model

    @property
    def forward_s(self) -> float:
        """Host time spent inside the model's forward so far."""
        return self._model.forward_s

    def catch_up(self, spans: Sequence[TokenSpan]) -> None:
        """The model's own."""
        self._model.catch_up(spans)

    def draft(self, items: Sequence[DraftItem], measure_confidence: bool) -> Drafts:
        """Each item by the part that it is meant for, in the order of the items."""
        token_ids: dict[int, torch.Tensor] = {}
        confidence: dict[int, float] = {}
        for drafter, by_lookup in ((self._lookup, True), (self._model, False)):
            places = [place for place, item in enumerate(items) if item.by_lookup == by_lookup]
            if places:
                drafts = drafter.draft([items[place] for place in places], measure_confidence)
                token_ids.update(zip(places, drafts.token_ids, strict=True))
                confidence.update(zip(places, drafts.confidence or (), strict=False))
        ordered = range(len(items))
        return Drafts(
            tuple(token_ids[place] for place in ordered),
            tuple(confidence[place] for place in ordered) if measure_confidence else None,
        )
