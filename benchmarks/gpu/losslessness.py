"""Answers of plain decoding by torch's attention, and with kernels, graphs and drafters: how many are equal.

The models are shapes with random weights, whose choices are often near ties: where two answers part, the target scores
the common prefix once more, in float64.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.part import Allowance, NotMeasured, Row
from benchmarks.gpu.scene import Scene
from benchmarks.gpu.turns import Turns
from benchmarks.losslessness import TOLERANCE, first_difference
from spinbench.metrics.store import read_run
from spinbench.models.model_shape import SHAPES
from spinbench.models.shape_model import shape_model
from spinbench.workload.acceptance.drafter_name import PROMPT_LOOKUP

REFERENCE = "plain by torch"


def losslessness(scene: Scene, out: Path, allowance: Allowance) -> Iterator[Row]:
    """One row per dtype and method: equal answers, and the widest gap between the logits of two that part."""
    trace = out / "random.jsonl"
    prompts = write_trace(trace, *((32, 64) if scene.on_cuda else (3, 5)))
    target = "llama-1.1b-shape" if scene.on_cuda else "llama-68m-shape"
    # the target itself, which is always right, and one that never is
    drafters = target if target == "llama-68m-shape" else f"{target},llama-68m-shape"
    common = [
        "models=huggingface", f"models.target={target}", f"models.drafters=[{drafters},{PROMPT_LOOKUP}]",
        f"trace.path={trace}", "scheduler.max_num_seqs=8",
    ]  # fmt: skip
    ours = ["engine.attention=auto", "engine.graphs=auto"] if scene.on_cuda else ["engine.graphs=eager"]
    methods = {
        REFERENCE: ["selector=plain", "engine.attention=torch", "engine.graphs=off"],
        "plain": ["selector=plain", *ours],
        "fixed": ["selector=fixed", f"selector.drafter={target}", *ours],
        "round_robin decomposed": ["selector=round_robin", "verification=decomposed", "verification.width=32", *ours],
        "trees": ["selector=round_robin", "drafting=tree", "drafting.branching=[2,2,1]", *ours],
    }
    # nothing is timed, so dtypes go side by side
    turns = {
        dtype: Turns(out / "losslessness" / dtype, [*common, f"engine.dtype={dtype}"], methods)
        for dtype in (("float32", "bfloat16") if scene.on_cuda else ("float32",))
    }
    try:
        for dtype, runs in turns.items():
            yield from _rows(scene, target, dtype, prompts, runs, allowance)
    finally:
        for runs in turns.values():
            runs.end()


def _rows(
    scene: Scene, target: str, dtype: str, prompts: dict[str, list[int]], runs: Turns, allowance: Allowance
) -> Iterator[Row]:
    expected: dict[str, list[int]] = {}
    for run in runs.replayed(allowance):
        if run.failure is not None:
            raise NotMeasured(f"{dtype}, {run.method}: {run.failure}")
        got = answers(run.folder)
        if run.method == REFERENCE:
            expected = got
            continue
        parted = {name: first_difference(expected[name], got[name]) for name in expected}
        places = {name: place for name, place in parted.items() if place is not None}
        prefixes = [
            ([*prompts[name], *expected[name][:place]], expected[name][place], got[name][place])
            for name, place in places.items()
        ]
        gap = largest_gap(scene, target, getattr(torch, dtype), prefixes)
        yield {
            "dtype": dtype,
            "run": run.method,
            "answers": len(expected),
            "equal": len(expected) - len(places),
            "earliest_divergence": min(places.values(), default=None),
            "largest_logit_gap": gap,
            "right": gap <= TOLERANCE[dtype],
        }


def write_trace(path: Path, count: int, tokens: int) -> dict[str, list[int]]:
    """Requests of random prompts; their token ids by request."""
    rng = np.random.default_rng(0)
    prompts = {f"r{row}": rng.integers(0, 32_000, int(rng.integers(5, 40))).tolist() for row in range(count)}
    lines = [
        {
            "id": name, "arrival_s": 0.0, "max_new_tokens": tokens, "ignore_eos": True, "seed": row,
            "prompt_token_ids": prompt,
        }
        for row, (name, prompt) in enumerate(prompts.items())
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return prompts


def answers(folder: Path) -> dict[str, list[int]]:
    """Output token ids of a run by request."""
    requests = read_run(folder).requests
    columns = requests[["request_id", "output_token_ids"]]
    return {str(name): [int(token) for token in tokens] for name, tokens in columns.itertuples(index=False)}


def largest_gap(scene: Scene, target: str, dtype: torch.dtype, prefixes: list[tuple[list[int], int, int]]) -> float:
    """Between the logits of two tokens behind a prefix, by the target's weights in float64; 0.0 for no prefix."""
    if not prefixes:
        return 0.0
    # random weights are the same for a seed, on the same device and in the same dtype
    model = shape_model(SHAPES[target], dtype, scene.device).double()
    gaps = []
    with torch.inference_mode():
        for prefix, left, right in prefixes:
            tokens = torch.tensor([prefix], device=scene.device)
            logits = model(tokens, use_cache=False, logits_to_keep=1).logits[0, -1]
            gaps.append(float((logits[left] - logits[right]).abs()))
    return max(gaps)
