"""A whole draft over static tensors: every pass, every choice of a token and its way into the next pass."""

from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.job import TokenSpans
from spinbench.runtime.confidence import top_probability
from spinbench.runtime.graphs.static_choice import RANDOM, StaticChoice, put_random, random_shape
from spinbench.runtime.graphs.static_ints import Int32Array, StaticInts
from spinbench.runtime.graphs.static_pass import PassCapacity, StaticPass
from spinbench.runtime.kernels.kernel_batch import TableSetting, block_table, causal_parts, filling
from spinbench.runtime.kernels.kernel_rows import HostRows, RowKeys, host_rows, tile_size
from spinbench.runtime.model_runner import ModelRunner, span_positions
from spinbench.runtime.slot_table import Slots

STOP_KEY = 4
"""Column of a tile: key behind its last."""


@dataclass(frozen=True, slots=True)
class LoopCapacity:
    """What a draft loop is captured for."""

    first: PassCapacity
    """The pass over the known tokens."""
    step: PassCapacity | None
    """Each pass over one drafted token a request; None where there are none."""
    batch: int
    """Requests, those that are nobody's included."""
    num_steps: int
    """Tokens that are drafted."""
    with_confidence: bool


@dataclass(frozen=True, slots=True, eq=False)
class LoopInputs:
    """A draft job's tables on the host, for a batch that is filled up."""

    first: HostRows
    first_positions: IntArray
    steps: tuple[HostRows, ...]
    """Of the passes behind the first."""
    step_positions: tuple[IntArray, ...]
    logit_rows: IntArray
    """[requests]: the row of each one's newest token."""
    random: Int32Array | None
    """[steps, requests, words] that tokens are drawn with; None where nothing is drawn."""

    def capacity(self, num_steps: int, batch: int, with_confidence: bool, setting: TableSetting) -> LoopCapacity:
        """What these need."""
        # a request's last piece grows from step to step, and nothing else
        step = PassCapacity.of(self.steps[0], setting) if self.steps else None
        return LoopCapacity(PassCapacity.of(self.first, setting), step, batch, num_steps, with_confidence)


def loop_inputs(
    known: TokenSpans,
    lengths: IntArray,
    batch: int,
    first_rows: int,
    slots: Slots,
    null_slot: int,
    setting: TableSetting,
    random: Int32Array | None,
) -> LoopInputs:
    """Tables of a draft of `lengths` tokens behind the `known` ones, for `batch` requests, the last of them nobody's.

    A request whose draft is over takes part to the end as one of those: it sees one key, and the null slot is written.
    """
    share = setting.shape.heads_per_kv_head
    count, more = len(known), batch - len(known)
    num_steps = int(lengths.max())
    blocks = block_table(known.rows.tolist(), known.stop + lengths - 1, slots, setting.block_size)
    blocks = np.concatenate((blocks, np.full((1, blocks.shape[1]), null_slot // setting.block_size, np.int32)))
    first = causal_parts(known, slots, setting, blocks=blocks[:-1])
    first = first.filled_up(first_rows, null_slot, setting.block_size, share)
    steps: list[HostRows] = []
    positions: list[IntArray] = []
    if num_steps > 1:
        written = np.full((num_steps, batch), null_slot, np.int64)
        drafted = zip(known.rows.tolist(), known.stop.tolist(), lengths.tolist(), strict=True)
        for place, (row, stop, length) in enumerate(drafted):
            written[1:length, place] = slots.slots(row, stop, stop + length - 1)
        ones = np.ones(more, np.int64)
        keys = RowKeys(
            np.append(np.ones(count, np.int64), more), np.append(known.stop + 1, 1), np.append(known.stop + 1, ones)
        )
        pieces = filling(keys, setting)
        second = host_rows(keys, pieces, written[1], blocks, share, tile_size(1, share))
        is_last = second.tiles[:, STOP_KEY] == keys.num_keys[second.tiles[:, 0]]
        for step in range(1, num_steps):
            steps.append(_at_step(second, is_last, step, written[step], lengths))
            positions.append(np.where(lengths > step, known.stop + step - 1, 0))
    return LoopInputs(
        first=first,
        first_positions=span_positions(known),
        steps=tuple(steps),
        step_positions=tuple(positions),
        logit_rows=np.cumsum(known.num_tokens) - 1,
        random=random,
    )


def _at_step(second: HostRows, is_last: np.ndarray, step: int, written: IntArray, lengths: IntArray) -> HostRows:
    """Tables of a later step from those of the second pass: a key more each time, in a request's last piece."""
    goes_on = lengths > step
    limits = second.limits.copy()
    limits[: len(lengths)] = np.where(goes_on, limits[: len(lengths)] + step - 1, 1)
    tiles = second.tiles.copy()
    is_real = tiles[:, 0] < len(lengths)
    request = np.minimum(tiles[:, 0], len(lengths) - 1)
    over = is_real & ~goes_on[request]
    tiles[:, STOP_KEY] += np.where(is_last & is_real & ~over, step - 1, 0)
    # of a draft that is over, the first key alone
    tiles[:, STOP_KEY] = np.where(over, np.where(tiles[:, 3] == 0, 1, tiles[:, 3]), tiles[:, STOP_KEY])
    return HostRows(
        tile_rows=second.tile_rows,
        tiles=tiles,
        merges=second.merges,
        num_partials=second.num_partials,
        limits=limits,
        requests=second.requests,
        write_slots=written.astype(np.int32),
        blocks=second.blocks,
        bits=second.bits,
    )


class StaticDraftLoop:
    """The loop, in the sizes of a bucket."""

    def __init__(
        self,
        runner: ModelRunner,
        choice: StaticChoice,
        setting: TableSetting,
        size: LoopCapacity,
    ) -> None:
        self._runner, self._choice, self._size = runner, choice, size
        self._first = StaticPass("first", size.first)
        self._steps: list[StaticPass] = []
        if size.step is not None:
            names = [f"step{step}" for step in range(1, size.num_steps)]
            self._steps = [StaticPass(name, size.step, shared_blocks="first") for name in names]
        batch = size.batch
        shapes = random_shape(choice, size.num_steps, batch) | {"logit_rows": (batch,)}
        for one in (self._first, *self._steps):
            shapes |= one.shapes()
        self._ints = StaticInts(shapes, runner.device)
        pool = runner.pool
        self._batches = [one.batch(self._ints, setting, pool) for one in (self._first, *self._steps)]
        self._known = torch.zeros(size.first.num_rows, dtype=torch.int64, device=runner.device)
        self.token_ids = torch.zeros(size.num_steps, batch, dtype=torch.int64, device=runner.device)
        """Drafted target token ids."""
        self.top_probability = torch.zeros(size.num_steps, batch, dtype=torch.float64, device=runner.device)
        """Of each drafted token, if asked for."""
        self.probability: list[torch.Tensor] = [torch.empty(0)] * size.num_steps
        """Of each step [requests], where tokens are drawn from a law: with which, once it ran."""
        self.law: list[torch.Tensor] = [torch.empty(0)] * size.num_steps
        """The laws, [requests, draft vocab]; these and the probabilities are always the same tensors where captured."""

    def fill(self, inputs: LoopInputs, token_ids: torch.Tensor) -> None:
        """Write a job's inputs; `token_ids` [rows] are the known tokens, which may have been drafted on the device."""
        ints = self._ints
        ints.begin()
        ints.put("logit_rows", inputs.logit_rows)
        put_random(ints, inputs.random)
        self._first.fill(ints, inputs.first, inputs.first_positions)
        for one, rows, positions in zip(self._steps, inputs.steps, inputs.step_positions, strict=True):
            one.fill(ints, rows, positions)
        ints.upload()
        self._known[: len(token_ids)].copy_(token_ids)
        self._known[len(token_ids) :].zero_()

    def run(self) -> None:
        """Every pass and choice of the draft."""
        ints, runner = self._ints, self._runner
        logits = runner.forward(
            self._known, ints["first.positions"].long(), self._batches[0], ints["logit_rows"].long()
        )
        for step in range(self._size.num_steps):
            drafted = self._choice.choose(logits, ints[RANDOM][step] if self._choice.num_words else None)
            self.token_ids[step].copy_(drafted.token_ids)
            if drafted.law is not None and drafted.probability is not None:
                self.law[step], self.probability[step] = drafted.law, drafted.probability
            if self._size.with_confidence:
                self.top_probability[step].copy_(top_probability(logits))
            if step + 1 < self._size.num_steps:
                positions = ints[f"step{step + 1}.positions"].long()
                logits = runner.forward(drafted.token_ids, positions, self._batches[step + 1], None)
