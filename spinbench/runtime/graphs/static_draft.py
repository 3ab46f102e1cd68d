"""A captured draft of chains: every pass, every choice of a token and its way into the next pass."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.control.jobs.job import TokenSpans
from spinbench.runtime.forward.kernel_batch import TableSetting, block_table, causal_parts, filling
from spinbench.runtime.forward.model_runner import ModelRunner, span_positions
from spinbench.runtime.graphs.draft_passes import DraftInputs, DraftPasses
from spinbench.runtime.graphs.static_choice import StaticChoice
from spinbench.runtime.graphs.static_ints import Int32Array
from spinbench.runtime.graphs.static_pass import PassCapacity
from spinbench.runtime.kernels.kernel_rows import HostRows, RowKeys, host_rows, tile_size
from spinbench.runtime.kv.slot_table import Slots
from spinbench.runtime.sampling.confidence import top_probability

REQUEST, FIRST_KEY, STOP_KEY = 0, 3, 4
"""Columns of a tile, see `TILE_FIELDS`."""


@dataclass(frozen=True, slots=True)
class LoopCapacity:
    """What a draft of chains is captured for."""

    first: PassCapacity
    """The pass over the known tokens."""
    step: PassCapacity | None
    """Each pass over one drafted token a request; None where there are none."""
    batch: int
    """Requests, those that are nobody's included."""
    num_steps: int
    """Tokens that are drafted."""
    with_confidence: bool

    @classmethod
    def of(cls, inputs: DraftInputs, batch: int, with_confidence: bool, setting: TableSetting) -> "LoopCapacity":
        """What these inputs need."""
        # from step to step a request's last piece grows, and nothing else: the first of them stands for all
        first, *steps = (PassCapacity.of(rows, setting) for rows in inputs.passes[:2])
        return cls(first, steps[0] if steps else None, batch, len(inputs.passes), with_confidence)

    @property
    def passes(self) -> list[PassCapacity]:
        """Of each step."""
        return [self.first] if self.step is None else [self.first, *[self.step] * (self.num_steps - 1)]


def loop_inputs(
    known: TokenSpans,
    lengths: IntArray,
    batch: int,
    first_rows: int,
    slots: Slots,
    null_slot: int,
    setting: TableSetting,
    random: Int32Array | None,
) -> DraftInputs:
    """Tables of a draft of `lengths` tokens behind the `known` ones, for `batch` requests, the last of them nobody's.

    A request whose draft is over takes part to the end as one of those: it sees one key, and the null slot is written.
    """
    num_steps = int(lengths.max())
    blocks = block_table(known.rows.tolist(), known.stop + lengths - 1, slots, setting.block_size)
    first = causal_parts(known, slots, setting, blocks=blocks).filled_up(first_rows, null_slot, setting)
    passes, positions = [first], [span_positions(known)]
    if num_steps > 1:
        written = np.full((num_steps, batch), null_slot, np.int64)
        drafted = zip(known.rows.tolist(), known.stop.tolist(), lengths.tolist(), strict=True)
        for place, (row, stop, length) in enumerate(drafted):
            written[1:length, place] = slots.slots(row, stop, stop + length - 1)
        second, grows = _second_pass(known, written[1], first.blocks, setting)
        for step in range(1, num_steps):
            passes.append(_at_step(second, grows, step, written[step], lengths))
            positions.append(np.where(lengths > step, known.stop + step - 1, 0))
    return DraftInputs(tuple(passes), tuple(positions), np.cumsum(known.num_tokens) - 1, random)


def _second_pass(
    known: TokenSpans, written: IntArray, blocks: Int32Array, setting: TableSetting
) -> tuple[HostRows, BoolArray]:
    """Tables of the pass over everybody's first drafted token, and which tiles have a request's last keys, [tiles].

    `written` [batch] are the slots of these tokens; nobody's requests are one, behind the others, with a row for each.
    """
    share, num_rows, num_keys = setting.shape.heads_per_kv_head, np.ones(len(known), np.int64), known.stop + 1
    more = len(written) - len(known)
    keys = RowKeys(np.append(num_rows, more), np.append(num_keys, 1), np.append(num_keys, np.ones(more, np.int64)))
    rows = host_rows(keys, filling(keys, setting), written, blocks, share, tile_size(1, share))
    return rows, rows.tiles[:, STOP_KEY] == keys.num_keys[rows.tiles[:, REQUEST]]


def _at_step(second: HostRows, grows: BoolArray, step: int, written: IntArray, lengths: IntArray) -> HostRows:
    """Tables of a later step from those of the second pass: a key more each time, in a request's last piece."""
    goes_on = lengths > step
    limits = second.limits.copy()
    limits[: len(lengths)] = np.where(goes_on, limits[: len(lengths)] + step - 1, 1)
    tiles = second.tiles.copy()
    is_real = tiles[:, REQUEST] < len(lengths)
    request = np.minimum(tiles[:, REQUEST], len(lengths) - 1)
    over = is_real & ~goes_on[request]
    tiles[:, STOP_KEY] += np.where(grows & is_real & ~over, step - 1, 0)
    # of a draft that is over, the first key alone
    first_alone = np.where(tiles[:, FIRST_KEY] == 0, 1, tiles[:, FIRST_KEY])
    tiles[:, STOP_KEY] = np.where(over, first_alone, tiles[:, STOP_KEY])
    return replace(second, tiles=tiles, limits=limits, write_slots=written.astype(np.int32))


class StaticDraftLoop:
    """The loop, in the sizes of a bucket."""

    def __init__(self, runner: ModelRunner, choice: StaticChoice, setting: TableSetting, size: LoopCapacity) -> None:
        self._choice, self._size = choice, size
        self.passes = DraftPasses(runner, choice, setting, size.passes, size.batch, share_blocks=True)
        shape, device = (size.num_steps, size.batch), runner.device
        self.token_ids = torch.zeros(shape, dtype=torch.int64, device=device)
        """Drafted target token ids."""
        self.top_probability = torch.zeros(shape, dtype=torch.float64, device=device)
        """Of each drafted token, if asked for."""
        self.probability: list[torch.Tensor] = [torch.empty(0)] * size.num_steps
        """Of each step [requests], where tokens are drawn from a law: with which, once it ran."""
        self.law: list[torch.Tensor] = [torch.empty(0)] * size.num_steps
        """The laws, [requests, draft vocab]; these and the probabilities are always the same tensors where captured."""

    def run(self) -> None:
        """Every pass and choice of the draft."""
        passes, num_steps = self.passes, self._size.num_steps
        logits = passes.first_logits()
        for step in range(num_steps):
            drafted = self._choice.choose(logits, passes.words(step))
            self.token_ids[step].copy_(drafted.token_ids)
            if drafted.law is not None and drafted.probability is not None:
                self.law[step], self.probability[step] = drafted.law, drafted.probability
            if self._size.with_confidence:
                self.top_probability[step].copy_(top_probability(logits))
            if step + 1 < num_steps:
                logits = passes.further_logits(step + 1, drafted.token_ids)
