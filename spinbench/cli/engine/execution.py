"""How models are run, from the engine's config: attention, graphs."""

import torch

from spinbench.cli.config.device_choice import choose_device
from spinbench.cli.config.replay import RuntimeSection
from spinbench.errors import UserError
from spinbench.runtime.forward.attention_choice import AttentionKind, choose_attention, table_attention
from spinbench.runtime.graphs.graph_setting import Execution
from spinbench.runtime.graphs.replay import GraphMemory, GraphMode


def attention_kind(engine: RuntimeSection) -> AttentionKind:
    """Who computes attention. Raises UserError where Triton is asked for and cannot be had."""
    return choose_attention(engine.attention, choose_device(engine), getattr(torch, engine.dtype))


def graph_mode(engine: RuntimeSection) -> GraphMode | None:
    """Whether passes and drafts are replayed; auto = CUDA graphs with our kernels on a GPU.

    Raises UserError for CUDA graphs where there can be none.
    """
    device, attention = choose_device(engine), attention_kind(engine)
    can_capture = device.type == "cuda" and attention == "triton"
    if engine.graphs == "cuda" and not can_capture:
        why = f"the models run on a {device.type}" if device.type != "cuda" else "torch computes attention"
        raise UserError(f"engine.graphs is cuda; {why}, so it must be auto, off or eager")
    if engine.tensor_parallel > 1:
        if engine.graphs in ("cuda", "eager"):
            raise UserError(
                f"engine.graphs is {engine.graphs} and engine.tensor_parallel {engine.tensor_parallel}; a shared "
                "target runs without graphs, so it must be auto or off"
            )
        return None
    if engine.graphs == "auto":
        return "cuda" if can_capture else None
    return None if engine.graphs == "off" else engine.graphs


def execution_of(engine: RuntimeSection) -> Execution:
    """All of it. Raises UserError as `attention_kind` and `graph_mode` do."""
    # losslessness in float32 is shown with products of float32; torch's containers may set TF32 by the environment
    torch.set_float32_matmul_precision("highest")
    attention = table_attention(attention_kind(engine), choose_device(engine))
    memory = GraphMemory(cap_bytes=int(engine.graph_memory_gb * 1e9))
    return Execution(attention, graph_mode(engine), memory)
