"""One pass of a model over static tensors, with the logits of all its rows: what a verification replays."""

import torch

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.job import TokenSpans
from spinbench.control.layout.plan import LayoutPlan
from spinbench.runtime.forward.kernel_batch import RowParts, TableSetting, causal_parts, tree_parts
from spinbench.runtime.forward.model_runner import ModelRunner, span_positions
from spinbench.runtime.forward.tree_batch import TreeNodes
from spinbench.runtime.graphs.replay import Replay, Replays
from spinbench.runtime.graphs.static_ints import StaticInts
from spinbench.runtime.graphs.static_pass import PassCapacity, StaticPass, row_bucket
from spinbench.runtime.kernels.kernel_rows import HostRows
from spinbench.runtime.kv.slot_table import Slots

PREFIX = "pass"


class StaticForward:
    """The model's pass, in the sizes of a bucket."""

    def __init__(self, runner: ModelRunner, setting: TableSetting, capacity: PassCapacity) -> None:
        self._runner = runner
        self._pass = StaticPass(PREFIX, capacity)
        self._ints = StaticInts(self._pass.shapes(), runner.device)
        self._batch = self._pass.batch(self._ints, setting, runner.pool)
        self._token_ids = torch.zeros(capacity.num_rows, dtype=torch.int64, device=runner.device)
        self.logits = torch.empty(0)
        """[rows, vocab] once it ran: always the same tensor where it was captured."""

    def fill(self, rows: HostRows, positions: IntArray, token_ids: torch.Tensor) -> None:
        """Write the inputs; `token_ids` and `positions` [rows], the tokens may have been drafted on the device."""
        self._ints.begin()
        self._pass.fill(self._ints, rows, positions)
        self._ints.upload()
        self._token_ids[: len(token_ids)].copy_(token_ids)
        self._token_ids[len(token_ids) :].zero_()

    def run(self) -> None:
        """One forward."""
        positions = self._ints[f"{PREFIX}.positions"].long()
        self.logits = self._runner.forward(self._token_ids, positions, self._batch, None)


class ForwardReplays:
    """A runner's passes by replay, wherever there is a bucket for them."""

    def __init__(self, runner: ModelRunner, slots: Slots, setting: TableSetting, replays: Replays) -> None:
        self._runner = runner
        self._slots = slots
        self._setting = setting
        self._replays = replays

    def logits(self, spans: TokenSpans, token_ids: torch.Tensor, plan: LayoutPlan) -> torch.Tensor | None:
        """Logits [rows, vocab] of all rows of `spans`; None where the pass has to run without a replay.

        They are overwritten by the next replay.
        """
        replay = self.prepared(spans, token_ids, plan)
        if replay is None:
            return None
        self._runner.count(replay.run)
        return replay.static.logits[: len(token_ids)]

    def tree_logits(self, nodes: TreeNodes, token_ids: torch.Tensor) -> torch.Tensor | None:
        """The same of nodes of token trees."""
        bucket = row_bucket(len(token_ids))
        if bucket is None:
            return None
        replay = self._filled(tree_parts(nodes, self._slots, self._setting), bucket, nodes.positions, token_ids)
        if replay is None:
            return None
        self._runner.count(replay.run)
        return replay.static.logits[: len(token_ids)]

    def prepared(self, spans: TokenSpans, token_ids: torch.Tensor, plan: LayoutPlan) -> Replay[StaticForward] | None:
        """The replay of this pass, with its inputs; None as above."""
        bucket = row_bucket(len(token_ids))
        if bucket is None or plan.kind not in ("packed", "decomposed"):
            return None
        setting = self._setting
        parts = causal_parts(spans, self._slots, setting, plan if plan.rectangles else None)
        return self._filled(parts, bucket, span_positions(spans), token_ids)

    def _filled(
        self, parts: RowParts, bucket: int, positions: IntArray, token_ids: torch.Tensor
    ) -> Replay[StaticForward] | None:
        setting = self._setting
        rows = parts.filled_up(bucket, self._runner.pool.null_slot, setting)
        capacity = PassCapacity.of(rows, setting)
        return self._replays.get(
            capacity,
            lambda: StaticForward(self._runner, setting, capacity),
            lambda static: static.fill(rows, positions, token_ids),
        )
