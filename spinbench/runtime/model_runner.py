"""One model with its KV pool: token ids in, logits out."""

import time

import numpy as np
import torch
from transformers import PreTrainedModel

from spinbench.control.job import TokenSpans
from spinbench.runtime.attention import use_paged_attention
from spinbench.runtime.kv_pool import KvPool, KvShape
from spinbench.runtime.packed_linear import copy_sharing_weights, pack_linears
from spinbench.runtime.paged_batch import PagedBatch, packed_batch, padded_batch
from spinbench.runtime.slot_table import SlotTable


class ModelRunner:
    """Runs packed or padded batches of token spans through a Hugging Face causal LM."""

    def __init__(self, model: PreTrainedModel, slots: SlotTable) -> None:
        self._model = copy_sharing_weights(model)
        use_paged_attention(self._model)
        pack_linears(self._model)
        self.device = model.device
        shape = KvShape.of(model.config)
        self._share = shape.heads_per_kv_head
        self.pool = KvPool(shape, slots.num_slots, model.dtype, self.device)
        self._slots = slots
        self.forward_s = 0.0
        """Host time spent inside the model's forward so far."""

    def packed(self, spans: TokenSpans, token_ids: torch.Tensor, logit_rows: torch.Tensor) -> torch.Tensor:
        """Run `token_ids` [rows], the spans' tokens behind each other; logits [len(logit_rows), vocab]."""
        lengths = spans.num_tokens
        offsets = np.cumsum(lengths) - lengths
        positions = np.arange(int(lengths.sum())) + np.repeat(spans.start - offsets, lengths)
        batch = packed_batch(spans, self._slots, self.pool, self._share)
        return self._forward(token_ids, torch.from_numpy(positions), batch, logit_rows)

    def padded(
        self, spans: TokenSpans, token_ids: torch.Tensor, query_width: int, logit_rows: torch.Tensor
    ) -> torch.Tensor:
        """Run `token_ids` [len(spans) * query_width], each span's tokens at the left of its row."""
        # a padding row repeats the position of the last real one: any valid position does
        positions = np.minimum(np.arange(query_width) + spans.start[:, None], spans.stop[:, None] - 1).reshape(-1)
        batch = padded_batch(spans, self._slots, self.pool, self._share, query_width)
        return self._forward(token_ids, torch.from_numpy(positions), batch, logit_rows)

    def _forward(
        self, token_ids: torch.Tensor, positions: torch.Tensor, batch: PagedBatch, logit_rows: torch.Tensor
    ) -> torch.Tensor:
        start_s = time.perf_counter()
        logits = self._model(
            input_ids=token_ids[None],
            position_ids=positions[None].to(self.device),
            use_cache=False,
            logits_to_keep=logit_rows,
            paged=batch,
        ).logits[0]
        self.forward_s += time.perf_counter() - start_s
        return logits
