"""A lookup in front of a model or an n-gram table."""

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import DraftJob, TokenSpans
from spinbench.control.text import LiveText
from spinbench.runtime.draft import Draft, Drafts
from spinbench.runtime.drafters.drafter import Drafter
from spinbench.runtime.drafters.model import ModelDrafter
from spinbench.runtime.drafters.text import NgramDrafter, PromptLookupDrafter
from spinbench.runtime.kv.slot_table import Slots
from spinbench.runtime.token_tree import SlotMoves


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
