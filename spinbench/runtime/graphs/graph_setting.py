"""How a body runs its models: which attention, and whether passes and drafts are replayed."""

import logging
from dataclasses import dataclass, field

import torch

from spinbench.runtime.forward.kernel_batch import TableSetting
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.graphs.draft_replays import DraftReplays
from spinbench.runtime.graphs.replay import GraphMemory, GraphMode, Replays
from spinbench.runtime.graphs.static_choice import static_choice
from spinbench.runtime.graphs.static_forward import ForwardReplays
from spinbench.runtime.graphs.static_pass import ROW_BUCKETS
from spinbench.runtime.kernels.dense_attention import dense_attention
from spinbench.runtime.kernels.table_attention import TableAttention
from spinbench.runtime.kv.slot_table import SlotTable
from spinbench.runtime.sampling.sampler import TokenSampler

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Execution:
    """The attention of all models, and their replays."""

    attention: TableAttention | None = None
    """None = torch's, request by request."""
    graphs: GraphMode | None = None
    """None = every pass is launched operation by operation."""
    memory: GraphMemory = field(default_factory=GraphMemory)
    """What the graphs of all models may hold together."""

    def forward_replays(self, runner: ModelRunner, slots: SlotTable) -> ForwardReplays | None:
        """Replays of a model's passes; None without graphs, or where the model does not allow them."""
        replays = self._replays(runner)
        if replays:
            LOG.info(
                "prefills run without a CUDA graph: each has another size, and work enough to hide its launches; "
                "so do verifications in rectangles of whole contexts, and passes of more than %d rows, those over a "
                "depth of many trees included",
                ROW_BUCKETS[-1],
            )
        return replays and ForwardReplays(runner, slots, _tables(runner, slots), replays)

    def draft_replays(
        self, runner: ModelRunner, sampler: TokenSampler, target_ids: torch.Tensor | None, slots: SlotTable
    ) -> DraftReplays | None:
        """Replays of a drafter's drafts."""
        replays = self._replays(runner)
        if replays is None:
            return None
        choice = static_choice(sampler, target_ids)
        return DraftReplays(runner, choice, target_ids, slots, _tables(runner, slots), replays)

    def _replays(self, runner: ModelRunner) -> Replays | None:
        if self.graphs is None:
            return None
        replays = Replays(self.graphs, runner.device, self.memory)
        if runner.has_window:
            replays.tell("a model with a sliding window runs without graphs: a replay cannot tell a context's length")
            return None
        return replays


def _tables(runner: ModelRunner, slots: SlotTable) -> TableSetting:
    """Those of the runner's kernels, or of the dense form that stands for them."""
    return runner.tables or TableSetting(TableAttention(dense_attention, 0), runner.pool.shape, slots.block_size)
