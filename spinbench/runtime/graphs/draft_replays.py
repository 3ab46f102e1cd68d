"""A drafter's drafts by replay, wherever there is a bucket for them."""

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.job import DraftJob
from spinbench.control.text import LiveText
from spinbench.runtime.confidence import DraftConfidence
from spinbench.runtime.draft import Draft, DraftLaw
from spinbench.runtime.graphs.replay import Replay, Replays
from spinbench.runtime.graphs.static_choice import StaticChoice
from spinbench.runtime.graphs.static_draft import StaticDraftLoop, loop_inputs
from spinbench.runtime.graphs.static_pass import row_bucket
from spinbench.runtime.kernels.kernel_batch import TableSetting
from spinbench.runtime.model_runner import ModelRunner
from spinbench.runtime.slot_table import Slots
from spinbench.runtime.upload import upload


class DraftReplays:
    """Chains of one drafter, all of a batch's drafts in one replay."""

    def __init__(
        self,
        runner: ModelRunner,
        choice: StaticChoice,
        target_ids: torch.Tensor | None,
        slots: Slots,
        setting: TableSetting,
        replays: Replays,
    ) -> None:
        self._runner = runner
        self._choice = choice
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
    ) -> list[Draft] | None:
        """A draft per request, each run to the job's own length; their confidence is noted.

        `token_ids` [rows] are those of the job's spans, on the device; `slots` where requests may have left theirs.
        None where the draft has to run without a replay: a tree, or more known tokens than a bucket has.
        """
        replay = self.prepared(job, token_ids, slots, text, confidence is not None)
        if replay is None:
            return None
        self._runner.count(replay.run)
        if confidence is not None:
            self._note(confidence, replay.static.top_probability, job.num_speculative_tokens)
        return self._drafts(replay.static, job.num_speculative_tokens)

    def tell_of_trees(self) -> None:
        """Say once that trees are drafted without a replay."""
        self._replays.tell("token trees are drafted without a CUDA graph, depth by depth: only chains have one")

    def prepared(
        self, job: DraftJob, token_ids: torch.Tensor, slots: Slots | None, text: LiveText, with_confidence: bool
    ) -> Replay[StaticDraftLoop] | None:
        """The replay of this draft, with its inputs; None as above."""
        if job.tree is not None:
            self.tell_of_trees()
            return None
        known, lengths = job.spans, job.num_speculative_tokens
        first_rows, batch = row_bucket(int(known.num_tokens.sum())), row_bucket(len(known))
        num_steps = int(lengths.max())
        if first_rows is None or batch is None or not num_steps or not lengths.all():
            return None
        # one size for both, so that there are few: a batch has a known token each at least
        first_rows = max(first_rows, batch)
        inputs = loop_inputs(
            known,
            lengths,
            batch,
            first_rows,
            slots or self._slots,
            self._runner.pool.null_slot,
            self._setting,
            self._choice.words(known, num_steps, text),
        )
        size = inputs.capacity(num_steps, batch, with_confidence)
        return self._replays.get(
            size,
            lambda: StaticDraftLoop(self._runner, self._choice, self._setting, size),
            lambda static: static.fill(inputs, token_ids),
        )

    def _drafts(self, static: StaticDraftLoop, lengths: IntArray) -> list[Draft]:
        """Copies: the next replay overwrites what this one drafted."""
        count, num_steps = len(lengths), int(lengths.max())
        tokens = static.token_ids[:, :count].t().contiguous()
        if not len(static.law[0]):
            return [Draft(own[:length]) for own, length in zip(tokens, lengths.tolist(), strict=True)]
        probability = torch.stack([step[:count] for step in static.probability], 1)
        law = DraftLaw(torch.cat([step[:count] for step in static.law]), self._target_ids)
        rows = np.arange(num_steps) * count + np.arange(count)[:, None]
        return [
            Draft(tokens[place, :length], probability[place, :length], law, rows[place, :length])
            for place, length in enumerate(lengths.tolist())
        ]

    @staticmethod
    def _note(confidence: DraftConfidence, top: torch.Tensor, lengths: IntArray) -> None:
        for step, probability in enumerate(top.clone()):
            requests = np.flatnonzero(lengths > step)
            at = upload(requests, probability.device)
            confidence.add_probability(probability[at], requests)
