"""The passes of a captured draft, over the known tokens and over what each step drafted, and a job's inputs to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spinbench.control.arrays import IntArray
from spinbench.runtime.forward.kernel_batch import TableSetting
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.graphs.static_choice import RANDOM, StaticChoice, put_random, random_shape
from spinbench.runtime.graphs.static_ints import Int32Array, StaticInts
from spinbench.runtime.graphs.static_pass import PassCapacity, StaticPass
from spinbench.runtime.kernels.kernel_rows import HostRows

LOGIT_ROWS = "logit_rows"


@dataclass(frozen=True, slots=True, eq=False)
class DraftInputs:
    """A draft job's tables on the host, for a batch that is filled up."""

    passes: tuple[HostRows, ...]
    """As many as steps: over the known tokens, then over what each step drafted but the last."""
    positions: tuple[IntArray, ...]
    """[rows] of each pass; rows behind them are nobody's."""
    logit_rows: IntArray
    """[requests]: the row of each one's newest token in the first pass."""
    random: Int32Array | None
    """[steps, requests, words] that tokens are drawn with; None where nothing is drawn."""


class DraftPasses:
    """All passes of a draft over static tensors; what is drafted between them is the caller's."""

    def __init__(
        self,
        runner: ModelRunner,
        choice: StaticChoice,
        setting: TableSetting,
        sizes: Sequence[PassCapacity],
        batch: int,
        *,
        share_blocks: bool,
    ) -> None:
        """`batch` requests are drafted for, those that are nobody's included.

        With `share_blocks` all passes are over the same requests, and read one table of their blocks.
        """
        self._runner = runner
        self._draws = choice.num_words > 0
        names = [f"pass{step}" for step in range(len(sizes))]
        self._passes = [
            StaticPass(name, size, shared_blocks=names[0] if share_blocks else None)
            for name, size in zip(names, sizes, strict=True)
        ]
        shapes = random_shape(choice, len(sizes), batch) | {LOGIT_ROWS: (batch,)}
        for each in self._passes:
            shapes |= each.shapes()
        self._ints = StaticInts(shapes, runner.device)
        self._positions = [self._ints[f"{name}.positions"] for name in names]
        self._batches = [each.batch(self._ints, setting, runner.pool) for each in self._passes]
        self._known = torch.zeros(sizes[0].num_rows, dtype=torch.int64, device=runner.device)

    def fill(self, inputs: DraftInputs, token_ids: torch.Tensor) -> None:
        """Write a job's inputs; `token_ids` [rows] are the known tokens, which may have been drafted on the device."""
        ints = self._ints
        ints.begin()
        ints.put(LOGIT_ROWS, inputs.logit_rows)
        put_random(ints, inputs.random)
        for each, rows, positions in zip(self._passes, inputs.passes, inputs.positions, strict=True):
            each.fill(ints, rows, positions)
        ints.upload()
        self._known[: len(token_ids)].copy_(token_ids)
        self._known[len(token_ids) :].zero_()

    def first_logits(self) -> torch.Tensor:
        """Run the known tokens; logits of each request's newest one, [requests, draft vocab]."""
        return self._logits(0, self._known, self._ints[LOGIT_ROWS].long())

    def further_logits(self, step: int, token_ids: torch.Tensor) -> torch.Tensor:
        """Run what the step before `step` drafted, `token_ids` [rows]; logits of all rows, [rows, draft vocab]."""
        return self._logits(step, token_ids, None)

    def words(self, step: int) -> torch.Tensor | None:
        """What this step's tokens are drawn with, [requests, words]; None where nothing is drawn."""
        return self._ints[RANDOM][step] if self._draws else None

    def _logits(self, step: int, token_ids: torch.Tensor, logit_rows: torch.Tensor | None) -> torch.Tensor:
        return self._runner.forward(token_ids, self._positions[step].long(), self._batches[step], logit_rows)
