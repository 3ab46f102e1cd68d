"""What one forward pass costs on the runtime's own path, by batch size and query rows: target and drafters.

python -m benchmarks.step_cost --out reports/benchmarks/step_cost.csv

A verify of K drafted tokens is a pass of K + 1 rows a request; plain decoding is a pass of one. Their ratio says what
speculation has to earn back.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from benchmarks.entry import run_main
from spinbench.control.jobs.job import TokenSpans
from spinbench.models.load import load_drafter, load_target
from spinbench.models.packed_drafter import packaged_drafters
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.kv.slot_table import SlotTable

BLOCK_SIZE = 16
SHAPES = ((1, 1), (1, 3), (1, 5), (8, 1), (8, 3), (8, 5))
"""(requests, query rows of each)"""


def slots_for(count: int, context_tokens: int) -> SlotTable:
    """Room for `count` requests of that context."""
    slots = SlotTable(count * -(-context_tokens // BLOCK_SIZE), BLOCK_SIZE)
    for row in range(count):
        slots.hold(row, context_tokens, context_tokens)
    return slots


def pass_ms(runner: ModelRunner, count: int, rows: int, context_tokens: int, repeats: int) -> np.ndarray:
    """Milliseconds of each of `repeats` passes over the last `rows` tokens of every request, after three to warm up."""
    spans = TokenSpans(np.arange(count), np.full(count, context_tokens - rows), np.full(count, context_tokens))
    tokens = torch.from_numpy(np.random.default_rng(0).integers(10, 40_000, count * rows))
    all_rows = torch.arange(len(tokens))
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 3):
            begun = time.perf_counter()
            runner.packed(spans, tokens, all_rows)
            times.append(1e3 * (time.perf_counter() - begun))
    return np.array(times[3:])


def main() -> None:
    """Measure and print; write the CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--context-tokens", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path, help="CSV")
    options = parser.parse_args()
    target = load_target("smollm2-135m-instruct", getattr(torch, options.dtype), torch.device("cpu"))
    models = {"target": target.model} | {name: load_drafter(name, target).model for name in packaged_drafters()}
    slots = slots_for(max(count for count, _ in SHAPES), options.context_tokens)
    table = []
    for name, model in track(models.items(), description="measuring"):
        runner = ModelRunner(model, slots)
        median_ms: dict[tuple[int, int], float] = {}
        for count, rows in SHAPES:
            times_ms = pass_ms(runner, count, rows, options.context_tokens, options.repeats)
            median_ms[count, rows] = float(np.median(times_ms))
            table.append(
                {
                    "model": name,
                    "batch": count,
                    "rows a request": rows,
                    "median (ms)": median_ms[count, rows],
                    "p10 (ms)": float(np.percentile(times_ms, 10)),
                    "p90 (ms)": float(np.percentile(times_ms, 90)),
                    "over one row": median_ms[count, rows] / median_ms[count, 1],
                }
            )
    frame = pd.DataFrame(table)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        frame.round(4).to_csv(options.out, index=False)
    print(f"{options.dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.repeats} repeats")
    print(frame.to_markdown(index=False, floatfmt=".2f"))


if __name__ == "__main__":
    run_main(main)
