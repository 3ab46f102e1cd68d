"""A drafter's drafts, chains and trees, by replay, wherever there is a bucket for them."""

import numpy as np
import torch

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.drafting.token_tree import TreeShape
from spinbench.control.jobs.job import DraftJob, TokenSpans
from spinbench.control.text import LiveText
from spinbench.runtime.draft import Draft, DraftLaw
from spinbench.runtime.forward.kernel_batch import TableSetting
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.graphs.replay import Replay, Replays
from spinbench.runtime.graphs.static_choice import StaticChoice
from spinbench.runtime.graphs.static_draft import LoopCapacity, StaticDraftLoop, loop_inputs
from spinbench.runtime.graphs.static_pass import row_bucket
from spinbench.runtime.graphs.static_tree import StaticTreeLoop, TreeLoopCapacity, tree_loop_inputs
from spinbench.runtime.kv.slot_table import Slots
from spinbench.runtime.sampling.confidence import DraftConfidence
from spinbench.runtime.tree_levels import deepest_first, in_order
from spinbench.runtime.upload import upload


class DraftReplays:
    """Drafts of one drafter, all of a batch's in one replay."""

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
        None where the draft has to run without a replay: more known tokens than a bucket has.
        """
        replay = self.prepared(job, token_ids, slots, text, confidence is not None)
        if replay is None:
            return None
        self._runner.count(replay.run)
        if confidence is not None:
            self._note(confidence, replay.static.top_probability, job.num_speculative_tokens)
        return self._drafts(replay.static, job.num_speculative_tokens)

    def trees(self, job: DraftJob, tree: TreeShape, text: LiveText) -> tuple[list[Draft], FloatArray | None] | None:
        """As `draft_trees`, in one replay; None where a depth has more nodes than a bucket has rows."""
        order, depths, known = deepest_first(job)
        num_steps = int(depths[0])
        buckets = _buckets(known)
        if buckets is None or not depths[-1]:
            return None
        first_rows, batch = buckets
        if row_bucket(batch * int(tree.widths[:num_steps].max())) is None:
            return None
        inputs = tree_loop_inputs(
            known,
            depths,
            tree,
            batch,
            first_rows,
            self._slots,
            self._runner.pool.null_slot,
            self._setting,
            self._choice.words(known, num_steps, text),
        )
        token_ids = upload(text.span_token_ids(known), self._runner.device)
        size = TreeLoopCapacity.of(inputs, batch, tree, job.measure_confidence, self._setting)
        replay = self._replays.get(
            size,
            lambda: StaticTreeLoop(self._runner, self._choice, self._setting, size),
            lambda static: static.passes.fill(inputs, token_ids),
        )
        if replay is None:
            return None
        self._runner.count(replay.run)
        return in_order(replay.static.levels, order, depths, tree), self._confidence(job, replay.static, order, depths)

    def prepared(
        self, job: DraftJob, token_ids: torch.Tensor, slots: Slots | None, text: LiveText, with_confidence: bool
    ) -> Replay[StaticDraftLoop] | None:
        """The replay of this draft, with its inputs; None as above."""
        known, lengths = job.spans, job.num_speculative_tokens
        buckets = _buckets(known)
        if buckets is None or not lengths.all():
            return None
        first_rows, batch = buckets
        inputs = loop_inputs(
            known,
            lengths,
            batch,
            first_rows,
            slots or self._slots,
            self._runner.pool.null_slot,
            self._setting,
            self._choice.words(known, int(lengths.max()), text),
        )
        size = LoopCapacity.of(inputs, batch, with_confidence, self._setting)
        return self._replays.get(
            size,
            lambda: StaticDraftLoop(self._runner, self._choice, self._setting, size),
            lambda static: static.passes.fill(inputs, token_ids),
        )

    def _drafts(self, static: StaticDraftLoop, lengths: IntArray) -> list[Draft]:
        """Copies: the next replay overwrites what this one drafted."""
        count, num_steps = len(lengths), int(lengths.max())
        # `contiguous` would not copy what one request, or one step, lays out the same either way
        tokens = static.token_ids[:, :count].t().clone(memory_format=torch.contiguous_format)
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
    def _confidence(job: DraftJob, static: StaticTreeLoop, order: IntArray, depths: IntArray) -> FloatArray | None:
        if not job.measure_confidence:
            return None
        sure = DraftConfidence(len(order), None)
        for step in range(int(depths[0])):
            active = int(np.count_nonzero(depths > step))
            sure.add_probability(static.top_probability[step, :active], order[:active])
        return sure.means(job.num_speculative_tokens)

    @staticmethod
    def _note(confidence: DraftConfidence, top: torch.Tensor, lengths: IntArray) -> None:
        for step, probability in enumerate(top[:, : len(lengths)].clone()):
            requests = np.flatnonzero(lengths > step)
            own = probability if len(requests) == len(lengths) else probability[upload(requests, top.device)]
            confidence.add_probability(own, requests)


def _buckets(known: TokenSpans) -> tuple[int, int] | None:
    """Rows of the pass over the known tokens, and requests of the batch, both filled up; None = no bucket has room.

    A batch has a known token each at least: one size for both, so that there are few.
    """
    first_rows, batch = row_bucket(int(known.num_tokens.sum())), row_bucket(len(known))
    return None if first_rows is None or batch is None else (max(first_rows, batch), batch)
