"""The runtime, from a checked config to models and a body that can start."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psutil
import torch

from spinbench.cli.decisions import choose_num_blocks, drafter_infos, loop_setting, read_trace
from spinbench.cli.model_shelf import ModelShelf, macs_of
from spinbench.cli.run_costs import run_costs
from spinbench.cli.schema import LiveSection, ReplayConfig, RuntimeSection
from spinbench.control.drafter import DrafterInfo
from spinbench.control.loop_setting import LoopSetting
from spinbench.errors import UserError
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.models.prompts import tokenize_requests
from spinbench.runtime.body import TorchBody, make_body
from spinbench.runtime.kv_pool import KvShape
from spinbench.runtime.sampler import Sampling
from spinbench.workload.acceptance.ngram_model import NgramModel
from spinbench.workload.request import Request, Trace


@dataclass(frozen=True)
class Assembly:
    """Everything that serves a trace, ready to start."""

    trace: Trace
    target: TargetModel
    drafters: tuple[tuple[DrafterInfo, DrafterModel | NgramModel | None], ...]
    """No model for prompt lookup."""
    prompts: dict[str, tuple[int, ...]]
    """Token ids by request id."""
    setting: LoopSetting
    body: TorchBody


def assemble(config: ReplayConfig, shelf: ModelShelf) -> Assembly:
    """Load and build all that a replay needs; what can fail cheaply fails first. Raises UserError."""
    engine = runtime_section(config)
    trace, target, prompts = load_prompts(config, engine, shelf)
    max_tokens = {request.id: len(prompts[request.id]) + request.max_new_tokens for request in trace.requests}
    num_blocks = choose_num_blocks(config, max_tokens)
    models = shelf.drafters(config.models.drafters)
    infos = drafter_infos(config.models, macs_of(models))
    digests = {model.name: model.weights_sha256 for model in models if model is not None}
    costs = run_costs(config, engine, infos, {config.models.target: target.weights_sha256, **digests})
    setting = loop_setting(config, infos, target.eos_token_ids, num_blocks, len(trace.requests), costs)
    num_slots = num_blocks * config.kv.block_size
    _check_memory(num_slots, [target.model, *(model.model for model in models if isinstance(model, DrafterModel))])
    drafters = tuple(zip(infos, models, strict=True))
    lanes = setting.placement, config.placement.drafter_threads
    body = make_body(target, drafters, sampling(config), num_blocks, config.kv.block_size, *lanes)
    return Assembly(trace, target, drafters, prompts, setting, body)


def load_prompts(
    config: ReplayConfig, engine: LiveSection, shelf: ModelShelf
) -> tuple[Trace, TargetModel, dict[str, tuple[int, ...]]]:
    """The trace, the target and the prompts' token ids by request id. Raises UserError."""
    needs_tokenizer = config.trace.max_prompt_tokens is not None
    trace = None if needs_tokenizer else read_trace(config, None)
    target = shelf.target(config.models.target, getattr(torch, engine.dtype), choose_device(engine))
    if trace is None:
        trace = read_trace(config, _prompt_counter(target, config.models.use_chat_template))
    token_ids = tokenize_requests(trace.requests, target, config.models.use_chat_template)
    return trace, target, {request.id: ids for request, ids in zip(trace.requests, token_ids, strict=True)}


def runtime_section(config: ReplayConfig) -> RuntimeSection:
    """The section of engine=runtime. Raises UserError where another engine is configured."""
    if not isinstance(config.engine, RuntimeSection):
        raise UserError(f"engine.kind is {config.engine.kind}; this needs real models: engine=runtime")
    return config.engine


def sampling(config: ReplayConfig) -> Sampling:
    """How tokens are drawn. Raises UserError for a value out of range."""
    return Sampling(config.sampling.temperature, config.sampling.top_p, config.sampling.top_k, config.sampling.kind)


def choose_device(engine: LiveSection) -> torch.device:
    """The device that `engine.device` means here. Raises UserError when there is no such device."""
    if engine.device == "cuda" and not torch.cuda.is_available():
        raise UserError("engine.device is cuda; torch finds no CUDA GPU here, so it must be cpu or auto")
    if engine.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(engine.device)


def _prompt_counter(target: TargetModel, use_chat_template: bool) -> Callable[[str], int]:
    # without the context limit, so that a trace can be freed of prompts that exceed it
    unlimited = replace(target, max_model_len_tokens=sys.maxsize)

    def count(prompt: str) -> int:
        request = Request(id="length", arrival_s=0.0, max_new_tokens=1, prompt=prompt)
        return len(tokenize_requests([request], unlimited, use_chat_template)[0])

    return count


def _check_memory(num_slots: int, models: list) -> None:
    """Raise UserError if the KV pools cannot fit: allocating them would end in a traceback, or in a killed process."""
    needed_bytes = sum(num_slots * KvShape.of(model.config).bytes_per_token(model.dtype) for model in models)
    device = models[0].device
    free_bytes = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed_bytes > free_bytes:
        raise UserError(
            f"the KV cache of {num_slots} tokens needs {needed_bytes / 1e9:.1f} GB and {free_bytes / 1e9:.1f} GB are "
            "free; lower scheduler.max_num_seqs, kv.num_blocks or trace.max_output_tokens"
        )


@contextmanager
def num_threads(count: int | None) -> Iterator[None]:
    """`count` threads for torch while inside; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
