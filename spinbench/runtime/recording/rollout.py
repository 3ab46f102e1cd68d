"""What a drafter would draft from every position of a text, right or wrong, and how sure it would be of it."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.forward.paged_batch import PagedBatch, RowGroup
from spinbench.runtime.kv.slot_table import SlotTable
from spinbench.runtime.recording.written_texts import WrittenTexts
from spinbench.runtime.sampling.confidence import top_probability
from spinbench.runtime.sampling.sampler import Sampler
from spinbench.runtime.upload import upload
from spinbench.workload.acceptance.probability import LOWEST, encode_probability

CHAINS = 128
"""Drafts that are continued together: a pass computes logits for so many rows."""


class Rollouts:
    """Confidence of the 2nd to the K-th token of a draft from every position of texts.

    A draft whose first token is the text's goes on as the draft from the next position does, so that only those which
    left the text are continued: all of a text in one pass per token, each seeing the text up to its own position and
    its own tokens, by a mask.
    """

    def __init__(self, sampler: Sampler, texts: WrittenTexts, num_tokens: int, target_ids: torch.Tensor | None) -> None:
        self._target_ids = target_ids
        self._sampler = sampler
        self._texts = texts
        self._num_further = num_tokens - 1
        self._prompt_tokens = np.array([len(prompt) for prompt in texts.prompts], np.int64)
        count = int(texts.offsets[-1])
        self._first_token_ids = np.zeros(count, np.int64)
        self._own = np.full((self._num_further, count), LOWEST, np.uint8)
        """Codes of the drafts that left the text at their first token."""

    @staticmethod
    def num_slots(num_tokens: int) -> int:
        """KV slots needed beside those of the texts."""
        return CHAINS * (num_tokens - 1)

    def first(self, positions: IntArray, token_ids: IntArray) -> None:
        """The first tokens drafted at some positions."""
        self._first_token_ids[positions] = token_ids

    def run(self, rows: Sequence[int], runner: ModelRunner, slots: SlotTable, own_slots: IntArray, most: int) -> None:
        """Continue all drafts of these requests, whose text the model has read, `most` or `CHAINS` together at most.

        `own_slots` are for their tokens.
        """
        for request, place in self._chains(rows, min(CHAINS, most)):
            self._continue(request, place, runner, slots, own_slots)

    def codes(self, right: BoolArray, first: np.ndarray) -> np.ndarray:
        """All codes, uint8 [K - 1, positions], from whether first tokens are the text's, and their codes."""
        stays = self._stays(right)
        codes = np.empty_like(self._own)
        before = first
        for number, own in enumerate(self._own):
            before = codes[number] = np.where(stays, np.append(before[1:], LOWEST), own)
        return codes

    def _stays(self, right: BoolArray) -> BoolArray:
        """Whether a draft is on the text after its first token; its last token is drafted on from by itself."""
        stays = right.copy()
        stays[self._texts.offsets[1:] - 1] = False
        return stays

    def _chains(self, rows: Sequence[int], most: int) -> Iterator[tuple[IntArray, IntArray]]:
        """Request and position in its answer of each draft that is continued by itself, some at a time."""
        texts = self._texts
        parts: list[IntArray] = []
        for row in rows:
            start, stop = int(texts.offsets[row]), int(texts.offsets[row + 1])
            left = self._first_token_ids[start:stop] != texts.token_ids[start:stop]
            left[-1] = True
            # a run drafts at most what may still be emitted but for one: with two tokens to come there is no 2nd
            left &= np.arange(stop - start) + 3 <= texts.max_new_tokens[row]
            place = np.flatnonzero(left)
            parts.append(np.stack((np.full_like(place, row), place)))
        all_parts = np.concatenate(parts, 1) if parts else np.empty((2, 0), np.int64)
        for first in range(0, all_parts.shape[1], most):
            request, place = all_parts[:, first : first + most]
            yield request, place

    def _continue(
        self, request: IntArray, place: IntArray, runner: ModelRunner, slots: SlotTable, own_slots: IntArray
    ) -> None:
        """Fill in the codes of some drafts, int [drafts] both."""
        device = runner.device
        positions = self._texts.offsets[request] + place
        prefix = self._prompt_tokens[request] + place  # tokens before the draft
        room = self._texts.max_new_tokens[request] - place - 2
        token_ids = upload(self._first_token_ids[positions], device)
        own = own_slots[: len(request) * self._num_further].reshape(len(request), self._num_further)
        for number in range(self._num_further):
            active = room > number
            if not active.any():
                return
            if not active.all():
                request, positions, prefix, room, own = (
                    part[active] for part in (request, positions, prefix, room, own)
                )
                token_ids = token_ids[upload(np.flatnonzero(active), device)]
            batch = self._batch(request, prefix, runner, slots, own[:, : number + 1])
            rows = torch.arange(len(request), device=device)
            logits = runner.run(token_ids, prefix + number, batch, rows)
            self._own[number, positions] = encode_probability(top_probability(logits).double().cpu().numpy())
            seeds = self._texts.seeds[request]
            token_ids = self._sampler.draft_tokens(logits, seeds, prefix + number + 1, self._target_ids)

    def _batch(
        self, request: IntArray, prefix: IntArray, runner: ModelRunner, slots: SlotTable, own: IntArray
    ) -> PagedBatch:
        """One row per draft, its newest token; `own` [drafts, tokens] are the slots of its tokens, the newest last."""
        pool, device = runner.pool, runner.device
        groups: list[RowGroup] = []
        bounds = [0, *(np.flatnonzero(np.diff(request)) + 1).tolist(), len(request)]
        for start, stop in itertools.pairwise(bounds):
            mine = own[start:stop]
            longest = int(prefix[start:stop].max())
            keys = np.concatenate((slots.slots(int(request[start]), 0, longest), mine.T.reshape(-1)))
            sees_text = np.arange(longest) < prefix[start:stop, None]
            sees = np.concatenate((sees_text, np.tile(np.eye(stop - start, dtype=np.bool_), mine.shape[1])), 1)
            mask = torch.zeros(sees.shape, dtype=pool.keys.dtype, device=device)
            mask.masked_fill_(upload(~sees, device), float("-inf"))
            groups.append(
                RowGroup(
                    start=start,
                    stop=stop,
                    num_keys=len(keys),
                    first_slot=-1,
                    key_slots=upload(keys, device),
                    mask=mask.repeat(runner.share, 1),
                )
            )
        written = upload(own[:, -1], device)
        return PagedBatch(pool, written, tuple(groups), int(prefix.max()) + own.shape[1])
