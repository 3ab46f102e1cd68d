"""Decoding speed as ratios in one run: our plain decoding, each drafter, and Hugging Face, at batch 1 and 8.

    python -m benchmarks.decode_speed --out reports/benchmarks/decode_speed.csv

Every repeat runs all methods one after another, so that a slow spell of the machine hits all of them alike; a ratio is
taken within a repeat, and its median over the repeats is printed with the smallest and the largest.
"""

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from rich.console import Console
from rich.progress import track

from benchmarks.entry import run_main
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.kv_budget import blocks_for_longest
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.selector.fixed import FixedSelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.models.load import DrafterModel, TargetModel, load_drafter, load_target
from spinbench.models.prompts import tokenize_requests
from spinbench.runtime.body import make_body
from spinbench.runtime.huggingface.generator import Assistance, HuggingFaceGenerator
from spinbench.runtime.sampling.sampler import Sampling
from spinbench.runtime.session import live_loop
from spinbench.workload.acceptance.drafter_name import LOOKUP_SUFFIX, PROMPT_LOOKUP
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from spinbench.workload.request import Request
from spinbench.workload.trace import read_trace

BLOCK_SIZE = 16
DRAFTERS = (
    "prompt_lookup",
    "smollm2-d576-slim-general",
    "smollm2-d576-slim-general+prompt_lookup",
)

Method = Callable[[int, int], dict[str, float]]
"""Serves the first so many prompts at a batch size; returns `seconds` and what else it measured."""
Drafter = tuple[DrafterInfo, DrafterModel | None]
"""No model for prompt lookup."""


def named_drafter(name: str, target: TargetModel, min_match_tokens: int) -> Drafter:
    """A drafter by its name in `models.drafters`; `min_match_tokens` is prompt lookup's."""
    if name == PROMPT_LOOKUP:
        return DrafterInfo(name, "prompt_lookup", min_match_tokens=min_match_tokens), None
    model = load_drafter(name.removesuffix(LOOKUP_SUFFIX), target)
    if name.endswith(LOOKUP_SUFFIX):
        return DrafterInfo(name, "lookup_then_model", model.macs_per_token, min_match_tokens=2), model
    return DrafterInfo(name, "model", model.macs_per_token), model


def run_ours(
    target: TargetModel,
    requests: list[Request],
    prompts: dict[str, tuple[int, ...]],
    batch_size: int,
    drafters: tuple[Drafter, ...],
    num_speculative_tokens: int,
) -> dict[str, float]:
    """Serve all requests with one drafter (or none); seconds, acceptance length and the share of host time."""
    infos = tuple(info for info, _ in drafters)
    longest = (len(prompts[request.id]) + request.max_new_tokens for request in requests)
    num_blocks = blocks_for_longest(longest, batch_size, BLOCK_SIZE)
    setting = SelectorSetting(infos, batch_size, len(requests), np.random.default_rng(0))
    body = make_body(target, drafters, Sampling(), num_blocks, BLOCK_SIZE)
    loop = LoopSetting(
        drafters=infos,
        selector=FixedSelector(setting, drafter=infos[0].name) if infos else PlainSelector(setting),
        draft_length=FixedDraftLength(num_speculative_tokens=num_speculative_tokens),
        layout=PackedLayout(),
        eos_token_ids=target.eos_token_ids,
        num_kv_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        max_num_seqs=batch_size,
        max_num_batched_tokens=2048,
    )
    record = live_loop(loop, body, ArrivalQueue(requests, ArrivalPattern(kind="all_at_once")), prompts).run()
    seconds = record.end_s - record.start_s
    emitted, rounds = len(record.rounds) + int(record.rounds.accepted.sum()), len(record.rounds)
    return {
        "seconds": seconds,
        "acceptance_length": emitted / rounds,
        "host_share": 1 - body.forward_s / seconds,
    }


def all_methods(options: argparse.Namespace, k_of: dict[int, int]) -> tuple[dict[str, Method], dict[str, Method]]:
    """What is compared, by name: at every batch size, and at batch 1 alone, as assisted generation knows no batches."""
    target = load_target("smollm2-135m-instruct", getattr(torch, options.dtype), torch.device("cpu"))
    requests = [
        replace(request, max_new_tokens=options.max_new_tokens, ignore_eos=True)
        for request in read_trace(options.trace).requests[: options.num_prompts]
    ]
    token_ids = tokenize_requests(requests, target, True)
    prompts = {request.id: ids for request, ids in zip(requests, token_ids, strict=True)}

    def ours(*drafter: Drafter) -> Method:
        return lambda batch, count: run_ours(target, requests[:count], prompts, batch, drafter, k_of[batch])

    def peer(assistance: Assistance | None = None) -> Method:
        generator = HuggingFaceGenerator(target, assistance)

        def run(batch: int, count: int) -> dict[str, float]:
            begun_s = time.perf_counter()
            for start in range(0, count, batch):
                part = slice(start, min(start + batch, count))
                generator.generate(requests[part], token_ids[part])
            return {"seconds": time.perf_counter() - begun_s}

        return run

    methods = {"hf generate": peer(), "plain": ours()}
    methods |= {name: ours(named_drafter(name, target, options.min_match_tokens)) for name in options.drafters}
    at_batch_one: dict[str, Method] = {}
    if 1 in k_of:
        assistant = load_drafter(options.assistant, target)
        at_batch_one[f"hf assisted, K={k_of[1]}"] = peer(Assistance(assistant, k_of[1]))
        at_batch_one["hf assisted, its defaults"] = peer(Assistance(assistant, None))
    return methods, at_batch_one


def measure(options: argparse.Namespace, k_of: dict[int, int]) -> pd.DataFrame:
    """A row for each batch size, method and repeat; the CSV is written after each pass if one is asked for."""
    methods, at_batch_one = all_methods(options, k_of)
    for run in (methods | at_batch_one).values():  # first uses cost more: kernels are chosen, memory is touched
        run(options.batch_sizes[0], 1)
    rows = []
    plan = [(repeat, batch) for repeat in range(options.repeats) for batch in options.batch_sizes]
    for repeat, batch in track(plan, description="measuring"):
        for method, run in (methods | at_batch_one if batch == 1 else methods).items():
            measured = run(batch, options.num_prompts)
            rows.append({"batch_size": batch, "method": method, "repeat": repeat, **measured})
        if options.out:  # so that an interrupted run leaves what it measured
            options.out.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).round(4).to_csv(options.out, index=False)
    return pd.DataFrame(rows)


def main() -> None:
    """Measure and print; write the CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, default=Path("traces/mixed.jsonl"))
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--num-prompts", type=int, default=8, help="first requests of the trace")
    parser.add_argument("--max-new-tokens", type=int, default=72)
    parser.add_argument(
        "--num-speculative-tokens", type=int, nargs="+", default=[4, 2], help="K, one for each batch size"
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--drafters", nargs="+", default=DRAFTERS, help="names as in models.drafters")
    parser.add_argument("--min-match-tokens", type=int, default=1, help="of prompt_lookup alone")
    parser.add_argument("--assistant", default="smollm2-d576-slim-general", help="drafter for HF assisted generation")
    parser.add_argument("--out", type=Path, help="CSV of every single measurement")
    options = parser.parse_args()
    k_of = dict(zip(options.batch_sizes, options.num_speculative_tokens, strict=True))
    table = measure(options, k_of)
    table["output_throughput"] = options.num_prompts * options.max_new_tokens / table["seconds"]
    console = Console(width=160)
    console.print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, {options.dtype}; {options.num_prompts} prompts of {options.trace}, "
        f"{options.max_new_tokens} tokens each, K={k_of} by batch size, {options.repeats} repeats"
    )
    console.print(ratios(table).to_markdown(index=False, floatfmt=".3g"))


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Per batch size and method: throughput, and its ratio over plain and over HF within each repeat."""
    keyed = table.set_index(["batch_size", "repeat", "method"])["output_throughput"].unstack("method")
    rows = []
    for batch, method in table[["batch_size", "method"]].drop_duplicates().itertuples(index=False):
        group = table[(table["batch_size"] == batch) & (table["method"] == method)]
        runs = keyed.xs(batch, level="batch_size")
        row = {"batch": batch, "method": method, "tokens/s": group["output_throughput"].median()}
        for base in ("plain", "hf generate"):
            ratio = runs[method] / runs[base]
            row[f"over {base}"] = f"{ratio.median():.2f} ({ratio.min():.2f}..{ratio.max():.2f})"
        row["acceptance length"] = group["acceptance_length"].median()
        row["host share"] = group["host_share"].median()
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    run_main(main)
