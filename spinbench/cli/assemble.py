"""From a checked config to a run that can start: trace, models, prompts, KV blocks, decisions, body."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import psutil
import torch

from spinbench.cli.locations import find_trace
from spinbench.cli.model_shelf import ModelShelf
from spinbench.cli.parts import make_part
from spinbench.cli.schema import LOOKUP_SUFFIX, PROMPT_LOOKUP, EngineSection, ReplayConfig
from spinbench.control.drafter import DrafterInfo
from spinbench.control.kv_budget import blocks_for_longest, check_request_fits
from spinbench.control.loop import LoopSetting
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.errors import UserError
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.models.prompts import tokenize_requests
from spinbench.runtime.body import TorchBody, make_body
from spinbench.runtime.kv_pool import KvShape
from spinbench.runtime.sampler import Sampling
from spinbench.workload.load import load_trace
from spinbench.workload.request import Request, Trace


@dataclass(frozen=True)
class Assembly:
    """Everything that serves a trace, ready to start."""

    trace: Trace
    target: TargetModel
    drafters: tuple[tuple[DrafterInfo, DrafterModel | None], ...]
    """No model for prompt lookup."""
    prompts: dict[str, tuple[int, ...]]
    """Token ids by request id."""
    setting: LoopSetting
    body: TorchBody


def assemble(config: ReplayConfig, shelf: ModelShelf) -> Assembly:
    """Load and build all that a replay needs; what can fail cheaply fails first. Raises UserError."""
    needs_tokenizer = config.trace.max_prompt_tokens is not None
    trace = None if needs_tokenizer else read_trace(config, None)
    target = shelf.target(config.models.target, getattr(torch, config.engine.dtype), choose_device(config.engine))
    if trace is None:
        trace = read_trace(config, _prompt_counter(target, config.models.use_chat_template))
    token_ids = tokenize_requests(trace.requests, target, config.models.use_chat_template)
    prompts = {request.id: ids for request, ids in zip(trace.requests, token_ids, strict=True)}
    max_tokens = {request.id: len(prompts[request.id]) + request.max_new_tokens for request in trace.requests}
    num_blocks = choose_num_blocks(config, max_tokens)
    models = [
        None if name == PROMPT_LOOKUP else shelf.drafter(name.removesuffix(LOOKUP_SUFFIX))
        for name in config.models.drafters
    ]
    infos = drafter_infos(config, models)
    setting = loop_setting(config, infos, target.eos_token_ids, num_blocks, len(trace.requests))
    num_slots = num_blocks * config.kv.block_size
    _check_memory(num_slots, [target.model, *(model.model for model in models if model is not None)])
    drafters = tuple(zip(infos, models, strict=True))
    body = make_body(target, drafters, sampling(config), num_blocks, config.kv.block_size)
    return Assembly(trace, target, drafters, prompts, setting, body)


def read_trace(config: ReplayConfig, count_tokens: Callable[[str], int] | None) -> Trace:
    """The part of the trace that the config asks for. Raises UserError naming the file and line."""
    return load_trace(find_trace(config.trace.path), config.trace.format, config.trace, count_tokens)


def sampling(config: ReplayConfig) -> Sampling:
    """How tokens are drawn. Raises UserError for a value out of range."""
    return Sampling(config.sampling.temperature, config.sampling.top_p, config.sampling.top_k)


def choose_device(engine: EngineSection) -> torch.device:
    """The device that `engine.device` means here. Raises UserError when there is no such device."""
    if engine.device == "cuda" and not torch.cuda.is_available():
        raise UserError("engine.device is cuda; torch finds no CUDA GPU here, so it must be cpu or auto")
    if engine.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(engine.device)


def choose_num_blocks(config: ReplayConfig, max_tokens: dict[str, int]) -> int:
    """KV blocks of the run, given the longest length of each request. Raises UserError if one could not be served."""
    block_size = config.kv.block_size
    if config.kv.num_blocks is None:
        return blocks_for_longest(max_tokens.values(), config.scheduler.max_num_seqs, block_size)
    for request_id, tokens in max_tokens.items():
        check_request_fits(request_id, tokens, config.kv.num_blocks, block_size)
    return config.kv.num_blocks


def drafter_infos(config: ReplayConfig, models: list[DrafterModel | None] | None = None) -> tuple[DrafterInfo, ...]:
    """What decisions know of the drafters; without loaded models their cost is 0."""
    lookup = config.models.prompt_lookup
    infos = []
    for index, name in enumerate(config.models.drafters):
        model = models[index] if models else None
        macs_per_token = model.macs_per_token if model else 0
        if name == PROMPT_LOOKUP:
            infos.append(DrafterInfo(name, "prompt_lookup", 0, lookup.max_match_tokens, lookup.min_match_tokens))
        elif name.endswith(LOOKUP_SUFFIX):
            shortest = lookup.min_match_tokens_before_model
            infos.append(DrafterInfo(name, "lookup_then_model", macs_per_token, lookup.max_match_tokens, shortest))
        else:
            infos.append(DrafterInfo(name, "model", macs_per_token))
    return tuple(infos)


def loop_setting(
    config: ReplayConfig,
    infos: tuple[DrafterInfo, ...],
    eos_token_ids: frozenset[int],
    num_blocks: int,
    num_requests: int,
) -> LoopSetting:
    """The decisions that the config names. Raises UserError for parameters that do not fit."""
    rng = np.random.default_rng([config.seed, config.repeat])
    selector_setting = SelectorSetting(infos, config.scheduler.max_num_seqs, num_requests, rng)
    return LoopSetting(
        drafters=infos,
        selector=make_part("selector", config.selector, setting=selector_setting),
        draft_length=make_part("drafting", config.drafting),
        layout=make_part("verification", config.verification),
        eos_token_ids=eos_token_ids,
        num_kv_blocks=num_blocks,
        block_size=config.kv.block_size,
        max_num_seqs=config.scheduler.max_num_seqs,
        max_num_batched_tokens=config.scheduler.max_num_batched_tokens,
    )


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
