"""Drafters without a network: prompt lookup, and an n-gram table."""

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.jobs.job import DraftJob, TokenSpans
from spinbench.control.text import LiveText
from spinbench.runtime.draft import Draft, Drafts
from spinbench.runtime.kv.slot_table import Slots
from spinbench.runtime.sampling.confidence import mean_confidence
from spinbench.runtime.token_tree import SlotMoves
from spinbench.runtime.upload import upload
from spinbench.workload.acceptance.ngram_model import NgramModel
from spinbench.workload.acceptance.probability import decode_probability


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

    def move_kv(self, moves: SlotMoves) -> None:
        """There is none."""

    def go_on(self, job: DraftJob, newest: torch.Tensor, slots: Slots, text: LiveText) -> Drafts:
        """Never asked: it drafts in no time."""
        raise TypeError(f"{type(self).__name__} has no network to draft ahead with")


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
        # one transfer for all: nobody waits for the device
        copied = upload(np.array([token for tokens in found for token in tokens], np.int64), self._device)
        drafts = tuple(map(Draft, copied.split([len(tokens) for tokens in found])))
        confidence = np.array([float(bool(tokens)) for tokens in found]) if job.measure_confidence else None
        return Drafts(drafts, confidence, np.zeros(len(found), np.int64))


class NgramDrafter(TextDrafter):
    """Names what most often followed the newest tokens in texts of the target; the rule is `NgramModel`."""

    def __init__(self, model: NgramModel, device: torch.device) -> None:
        self.model = model
        self._device = device

    def draft(self, job: DraftJob, text: LiveText) -> Drafts:
        """K tokens per request, or up to where it is no longer sure.

        A law that names one token is sure of it, so that rejection knows it for certain.
        """
        lengths = job.num_speculative_tokens
        tokens, codes = self.model.draft(
            text.context_ends(job.spans.rows, self.model.context_tokens), int(lengths.max())
        )
        kept = lengths if job.stop is None else np.minimum(job.stop.num_kept(codes), lengths)
        on_device = upload(tokens, self._device)
        drafts = tuple(Draft(on_device[place, :length]) for place, length in enumerate(kept.tolist()))
        confidence = None
        if job.measure_confidence:
            confidence = mean_confidence(decode_probability(codes), kept, lengths)
        return Drafts(drafts, confidence, lengths)
