"""What the measurements are made on: sizes for a GPU, or tiny ones that show on a CPU that the code works."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.jobs.job import DraftJob, TokenSpans
from spinbench.control.text import LiveText
from spinbench.models.free_memory import free_bytes
from spinbench.models.model_shape import SHAPES, ModelShape, llama_shape
from spinbench.runtime.forward.attention_choice import table_attention
from spinbench.runtime.forward.kernel_batch import TableSetting
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.graphs.replay import GraphMemory
from spinbench.runtime.kernels.table_attention import TableAttention
from spinbench.runtime.kv.kv_pool import KvShape
from spinbench.runtime.kv.slot_table import SlotTable
from spinbench.workload.request import Request

BLOCK_SIZE = 16
NUM_SPECULATIVE_TOKENS = 4
MINUTE_S = 60.0
TARGETS = ("llama-7b-shape", "llama-1.4b-shape", "llama-616m-shape", "llama-265m-shape")
BATCHES = (1, 2, 4, 8, 16, 32)
CONTEXT_TOKENS = 512
BESIDE_BYTES = 6 << 30
"""Beside the target: the drafter, graphs, what passes need, the context of each process; attention's own pools."""


def largest_target(free: int) -> ModelShape:
    """The first of `TARGETS` whose weights and KV of the largest batch, in bfloat16, leave room for all else.

    The smallest one if none does.
    """
    shapes = [SHAPES[name] for name in TARGETS]
    tokens = max(BATCHES) * (CONTEXT_TOKENS + BLOCK_SIZE)
    needs = [2 * one.num_parameters + tokens * one.kv_bytes_per_token(2) + BESIDE_BYTES for one in shapes]
    return next((one for one, need in zip(shapes, needs, strict=True) if need <= free), shapes[-1])


@dataclass(frozen=True)
class Scene:
    """Sizes of everything."""

    device: torch.device
    dtype: torch.dtype
    target: ModelShape
    drafter: ModelShape
    batches: tuple[int, ...]
    context_tokens: int
    """Of the passes over whole models."""
    long_context_tokens: int
    """Of attention alone."""
    limit_s: float
    """Nothing is measured any more when so much time has passed."""

    @classmethod
    def on_gpu(cls, limit_s: float = 8.8 * MINUTE_S) -> "Scene":
        """LLaMA-7B's shape, or the largest that there is memory for, and the 68M drafter's, in bfloat16."""
        device = torch.device("cuda")
        return cls(
            device=device,
            dtype=torch.bfloat16,
            target=largest_target(free_bytes(device)),
            drafter=SHAPES["llama-68m-shape"],
            batches=BATCHES,
            context_tokens=CONTEXT_TOKENS,
            long_context_tokens=8192,
            limit_s=limit_s,
        )

    @classmethod
    def miniature(cls) -> "Scene":
        """For a CPU; the kernels run in Triton's interpreter."""
        return cls(
            device=torch.device("cpu"),
            dtype=torch.float32,
            target=llama_shape("tiny-target", 2, 32, 48, 4, 2, "made up", vocab_size=64),
            drafter=llama_shape("tiny-drafter", 1, 16, 24, 2, 2, "made up", vocab_size=64),
            batches=(1, 2),
            context_tokens=24,
            long_context_tokens=40,
            limit_s=20 * MINUTE_S,
        )

    @property
    def sizes(self) -> str:
        """What is run, in words: the target is smaller where there is no memory for LLaMA-7B's."""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"target {self.target.name}, drafter {self.drafter.name}, {dtype}, contexts of {self.context_tokens}"

    @property
    def on_cuda(self) -> bool:
        """Whether times mean anything."""
        return self.device.type == "cuda"

    def kernels(self) -> TableAttention:
        """Our attention kernels on this device."""
        made = table_attention("triton", self.device)
        assert made is not None
        return made

    def execution(self) -> Execution:
        """As the runtime runs models here: kernels and graphs, or on a CPU what stands for both."""
        return Execution(self.kernels(), "cuda", GraphMemory(4 << 30)) if self.on_cuda else Execution(None, "eager")


def slots_of(batch: int, context_tokens: int, further_tokens: int) -> SlotTable:
    """Slots of requests 0 to `batch`, each with room for its context and more."""
    longest = context_tokens + further_tokens
    slots = SlotTable(batch * -(-longest // BLOCK_SIZE), BLOCK_SIZE)
    for row in range(batch):
        slots.hold(row, longest, longest)
    return slots


def tail_spans(context_tokens: Sequence[int], num_rows: int) -> TokenSpans:
    """The last `num_rows` tokens of each request's context. Raises ValueError for a context that is shorter."""
    stop = np.array(context_tokens, np.int64)
    if stop.min() < num_rows:
        raise ValueError(f"a context of {stop.min()} tokens has no last {num_rows}")
    return TokenSpans(np.arange(len(stop)), stop - num_rows, stop)


def made_text(batch: int, context_tokens: int, vocab_size: int) -> LiveText:
    """Texts of random tokens."""
    rng = np.random.default_rng(0)
    requests = [Request(f"r{row}", 0.0, 64, prompt_len_tokens=context_tokens, seed=row) for row in range(batch)]
    prompts = {one.id: tuple(rng.integers(0, vocab_size, context_tokens - 1).tolist()) for one in requests}
    return LiveText(requests, prompts)


def draft_job(batch: int, context_tokens: int) -> DraftJob:
    """K tokens behind the newest one of each request."""
    count = np.full(batch, NUM_SPECULATIVE_TOKENS)
    return DraftJob(0, tail_spans([context_tokens] * batch, 1), count, np.zeros(batch, np.bool_), False)


def table_setting(
    attention: TableAttention, num_heads: int, num_kv_heads: int, head_dim: int, num_layers: int = 1
) -> TableSetting:
    """Attention alone."""
    return TableSetting(attention, KvShape(num_layers, num_heads, num_kv_heads, head_dim), BLOCK_SIZE)
