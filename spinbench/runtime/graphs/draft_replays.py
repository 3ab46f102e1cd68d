"""A drafter's drafts by replay, wherever there is a bucket for them."""

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.job import DraftJob, TokenSpans
from spinbench.control.text import LiveText
from spinbench.runtime.confidence import DraftConfidence
from spinbench.runtime.graphs.replay import Replay, Replays
from spinbench.runtime.graphs.static_draft import StaticDraftLoop, loop_inputs
from spinbench.runtime.graphs.static_pass import row_bucket
from spinbench.runtime.kernels.kernel_batch import TableSetting
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.noise import Int32Array, noise_keys
from spinbench.runtime.sampler import Sampler
from spinbench.runtime.slot_table import Slots
from spinbench.runtime.upload import upload


class DraftReplays:
    """Chains of one drafter, all of a batch's drafts in one replay."""

    def __init__(
        self,
        runner: ModelRunner,
        sampler: Sampler,
        target_ids: torch.Tensor | None,
        slots: Slots,
        setting: TableSetting,
        replays: Replays,
    ) -> None:
        self._runner = runner
        self._sampler = sampler
        self._target_ids = target_ids
        self._slots = slots
        self._setting = setting
        self._replays = replays

    def draft(
        self,
        job: DraftJob,
        token_ids: torch.Tensor,
        slots: Slots | None,
        text: LiveText,
        confidence: DraftConfidence | None,
    ) -> torch.Tensor | None:
        """Token ids int64 [requests, steps], of which a request's own length has meaning; their confidence is noted.

        `token_ids` [rows] are those of the job's spans, on the device; `slots` where requests may have left theirs.
        None where the draft has to run without a replay: a tree, or more known tokens than a bucket has.
        """
        replay = self.prepared(job, token_ids, slots, text, confidence is not None)
        if replay is None:
            return None
        self._runner.count(replay.run)
        if confidence is not None:
            self._note(confidence, replay.static.top_probability, job.num_speculative_tokens)
        # a copy: the next replay overwrites what it drafted
        return replay.static.token_ids[:, : len(job.spans)].t().contiguous()

    def prepared(
        self, job: DraftJob, token_ids: torch.Tensor, slots: Slots | None, text: LiveText, with_confidence: bool
    ) -> Replay[StaticDraftLoop] | None:
        """The replay of this draft, with its inputs; None as above."""
        known, lengths = job.spans, job.num_speculative_tokens
        first_rows, batch = row_bucket(int(known.num_tokens.sum())), row_bucket(len(known))
        num_steps = int(lengths.max())
        if job.tree is not None or first_rows is None or batch is None or not num_steps or not lengths.all():
            return None
        # one size for both, so that there are few: a batch has a known token each at least
        first_rows = max(first_rows, batch)
        keys = self._noise_keys(known, num_steps, text) if self._sampler.draws else None
        inputs = loop_inputs(
            known,
            lengths,
            batch,
            first_rows,
            slots or self._slots,
            self._runner.pool.null_slot,
            self._setting,
            keys,
        )
        size = inputs.capacity(num_steps, batch, with_confidence)
        return self._replays.get(
            size,
            lambda: StaticDraftLoop(self._runner, self._sampler, self._target_ids, self._setting, size),
            lambda static: static.fill(inputs, token_ids),
        )

    def _noise_keys(self, known: TokenSpans, num_steps: int, text: LiveText) -> Int32Array:
        positions = known.stop + np.arange(num_steps)[:, None]
        seeds = np.broadcast_to(text.seeds[known.rows], positions.shape)
        return noise_keys(seeds.reshape(-1), positions.reshape(-1)).reshape(*positions.shape, 2)

    @staticmethod
    def _note(confidence: DraftConfidence, top: torch.Tensor, lengths: IntArray) -> None:
        for step, probability in enumerate(top.clone()):
            requests = np.flatnonzero(lengths > step)
            at = upload(requests, probability.device)
            confidence.add_probability(probability[at], requests)
