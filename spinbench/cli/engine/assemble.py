"""The runtime, from a checked config to models and a body that can start."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from spinbench.cli.config.device_choice import choose_device, with_known_dtype
from spinbench.cli.config.replay import LiveSection, ReplayConfig, RuntimeSection
from spinbench.cli.engine.decisions import check_decisions, choose_num_blocks, drafter_infos, loop_setting, read_trace
from spinbench.cli.engine.execution import execution_of
from spinbench.cli.engine.model_shelf import ModelShelf, macs_of
from spinbench.cli.engine.run_costs import run_costs
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.loop_setting import LoopSetting
from spinbench.errors import UserError
from spinbench.models.free_memory import free_bytes
from spinbench.models.load import DrafterModel, TargetModel
from spinbench.models.loaded_model import on_device
from spinbench.models.prompts import tokenize_requests
from spinbench.models.tensor_parallel import check_share, model_share, num_shares
from spinbench.runtime.body import TorchBody, make_body
from spinbench.runtime.kv.kv_pool import KvShape
from spinbench.runtime.process_group import Ranks
from spinbench.runtime.sampling.sampler import Sampling
from spinbench.workload.acceptance.ngram_model import NgramModel
from spinbench.workload.request import Request, Trace

LESS = "take smaller or fewer models, or lower kv.gpu_memory_utilization, kv.num_blocks or scheduler.max_num_seqs"
"""What leaves more memory."""


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
    engine: RuntimeSection
    """With its number format named."""
    ranks: Ranks | None
    """Those that share the target; None = this process has all of it."""


def assemble(config: ReplayConfig, shelf: ModelShelf, replica: int = 0) -> Assembly:
    """Load and build all that a replay needs on a replica; what can fail cheaply fails first. Raises UserError."""
    engine = runtime_section(config)
    trace, target, prompts = load_prompts(config, engine, shelf)
    beside = check_decisions(config, run_costs(config, engine, drafter_infos(config.models))).branch_tokens
    max_tokens = {request.id: len(prompts[request.id]) + request.max_new_tokens + beside for request in trace.requests}
    choose_num_blocks(config, max_tokens)  # what cannot be served is refused before drafters are loaded
    ranks = None
    if engine.tensor_parallel > 1:
        target, ranks = join_others(target, engine)
    models = shelf.drafters(config.models.drafters, networks=ranks is None or ranks.is_first)
    macs, digests = macs_of(models), {model.name: model.weights_sha256 for model in models if model is not None}
    if ranks is not None:
        # others decide as the first does, without its networks
        macs, digests = ranks.of_first((macs, digests))
        models = tuple(on_device(model, choose_device(engine)) for model in models)
    networks = [target.model, *(model.model for model in models if isinstance(model, DrafterModel))]
    limit = _blocks_that_fit(config, networks)
    if ranks is not None and limit is not None:
        limit = ranks.least(limit)
    num_blocks = choose_num_blocks(config, max_tokens, limit=limit)
    infos = drafter_infos(config.models, macs)
    costs = run_costs(config, engine, infos, {config.models.target: target.weights_sha256, **digests})
    setting = loop_setting(config, infos, target.eos_token_ids, num_blocks, len(trace.requests), costs, replica=replica)
    num_slots = num_blocks * config.kv.block_size
    _check_memory(num_slots, networks)
    drafters = tuple(zip(infos, models, strict=True))
    lanes = setting.placement, config.placement.drafter_threads
    body = make_body(
        target,
        drafters,
        sampling(config),
        num_blocks,
        config.kv.block_size,
        *lanes,
        execution=execution_of(engine),
        ranks=ranks,
    )
    return Assembly(trace, target, drafters, prompts, setting, body, engine, ranks)


def join_others(target: TargetModel, engine: RuntimeSection) -> tuple[TargetModel, Ranks]:
    """This process's part of the target, and the processes that have the others. Raises UserError."""
    count, device = engine.tensor_parallel, choose_device(engine)
    check_share(target.name, target.model, count)
    ranks = Ranks.join(device)
    return replace(target, model=model_share(target.name, target.model, count, device)), ranks


def load_prompts(
    config: ReplayConfig, engine: LiveSection, shelf: ModelShelf
) -> tuple[Trace, TargetModel, dict[str, tuple[int, ...]]]:
    """The trace, the target and the prompts' token ids by request id. Raises UserError."""
    needs_tokenizer = config.trace.max_prompt_tokens is not None
    trace = None if needs_tokenizer else read_trace(config, None)
    shares = isinstance(engine, RuntimeSection) and engine.tensor_parallel > 1
    # what is shared is whole on the host first
    device = torch.device("cpu") if shares else choose_device(engine)
    target = shelf.target(config.models.target, getattr(torch, engine.dtype), device)
    if trace is None:
        trace = read_trace(config, _prompt_counter(target, config.models.use_chat_template))
    token_ids = tokenize_requests(trace.requests, target, config.models.use_chat_template)
    return trace, target, {request.id: ids for request, ids in zip(trace.requests, token_ids, strict=True)}


def runtime_section(config: ReplayConfig) -> RuntimeSection:
    """The section of engine=runtime. Raises UserError where another engine is configured."""
    if not isinstance(config.engine, RuntimeSection):
        raise UserError(f"engine.kind is {config.engine.kind}; this needs real models: engine=runtime")
    return with_known_dtype(config.engine)


def sampling(config: ReplayConfig) -> Sampling:
    """How tokens are drawn. Raises UserError for a value out of range."""
    return Sampling(config.sampling.temperature, config.sampling.top_p, config.sampling.top_k, config.sampling.kind)


def _prompt_counter(target: TargetModel, use_chat_template: bool) -> Callable[[str], int]:
    # without the context limit, so that a trace can be freed of prompts that exceed it
    unlimited = replace(target, max_model_len_tokens=sys.maxsize)

    def count(prompt: str) -> int:
        request = Request(id="length", arrival_s=0.0, max_new_tokens=1, prompt=prompt)
        return len(tokenize_requests([request], unlimited, use_chat_template)[0])

    return count


def _blocks_that_fit(config: ReplayConfig, models: Sequence[PreTrainedModel]) -> int | None:
    """KV blocks of all `models` in the share of the GPU's memory that is ours; None on a CPU, whose memory is shared.

    The models' weights are there already. Raises UserError when they alone take that share.
    """
    device = models[0].device
    if device.type != "cuda":
        return None
    free, total = free_bytes(device), torch.cuda.get_device_properties(device).total_memory
    left = int(config.kv.gpu_memory_utilization * total) - (total - free)
    num_blocks = left // (config.kv.block_size * _bytes_per_token(models))
    if num_blocks < 1:
        raise UserError(
            f"kv.gpu_memory_utilization is {config.kv.gpu_memory_utilization}, of {total / 1e9:.1f} GB; "
            f"{(total - free) / 1e9:.1f} GB are in use with the models loaded, so no KV cache fits: raise it, or take "
            "smaller or fewer models"
        )
    return num_blocks


def _bytes_per_token(models: Sequence[PreTrainedModel]) -> int:
    """Keys and values of a token in all models: their pools have as many slots."""
    shapes = [KvShape.of(model.config).share(num_shares(model.config)) for model in models]
    return sum(shape.bytes_per_token(model.dtype) for shape, model in zip(shapes, models, strict=True))


def _check_memory(num_slots: int, models: Sequence[PreTrainedModel]) -> None:
    """Raise UserError if the KV pools cannot fit: allocating them would end in a traceback, or in a killed process."""
    needed_bytes = num_slots * _bytes_per_token(models)
    free = free_bytes(models[0].device)
    if needed_bytes > free:
        raise UserError(
            f"the KV cache of {num_slots} tokens needs {needed_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
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
