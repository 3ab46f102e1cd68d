"""Verification attention on ragged batches: padded, grouped, decomposed and packed side by side, time and memory.

python -m benchmarks.decomposition --lengths CSV --out reports/decomposition

Contexts are drawn from Azure's LLM inference trace of 2023, conversation (`--lengths`: its CSV), or without it from the
law that `traces/synthetic_chat.yaml` fits to it; scaled so that the longest is the longest context of the model. Every
batch is the beginning of the next larger one. Timed is what differs between layouts: laying the batch out, and the
attention of all layers over a KV pool; the linear layers are the same. A layout that needs more than
`--memory-budget-mb` beside the KV cache is refused before it allocates anything.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from rich.progress import track

from benchmarks.decomposition_report import write_report
from benchmarks.entry import run_main
from benchmarks.layout_timing import BLOCK_SIZE, AttentionBench, fit_law, timed_ms, verify_spans
from spinbench.cli.locations import find_trace
from spinbench.control.arrays import IntArray
from spinbench.control.cost_curve import RectangleAttention
from spinbench.control.layout.decomposed import DecomposedLayout
from spinbench.control.layout.grouped import GroupedLayout
from spinbench.control.layout.memory import AttentionShape, peak_bytes, touched_bytes
from spinbench.control.layout.packed import PackedLayout
from spinbench.control.layout.padded import PaddedLayout
from spinbench.control.layout.protocol import LayoutSetting, VerificationLayout
from spinbench.models.load import load_target
from spinbench.runtime.kv.kv_pool import KvShape
from spinbench.workload.length_law import LengthLaw
from spinbench.workload.synthetic import SyntheticTrace

LARGEST_BATCH = 64


def traffic_lengths(path: Path | None, count: int, rng: np.random.Generator) -> tuple[IntArray, int]:
    """Context lengths drawn from the traffic, and the longest that it has."""
    if path is not None:
        with path.open(encoding="utf-8", newline="") as file:
            lengths = np.array([int(row["ContextTokens"]) for row in csv.DictReader(file)])
        return rng.choice(lengths, count), int(lengths.max())
    content = yaml.safe_load(find_trace("synthetic_chat.yaml").read_text(encoding="utf-8"))
    law: LengthLaw = SyntheticTrace.model_validate(content).prompt_tokens
    if law.law == "fixed":
        raise SystemExit("synthetic_chat.yaml: prompt_tokens is fixed, so no batch is ragged")
    return law.draw(count, rng), law.max_tokens


def layouts(law: RectangleAttention) -> dict[str, VerificationLayout]:
    """Those that are compared; what can be searched is."""
    setting = LayoutSetting({"grouped": law, "decomposed": law})
    return {
        "padded": PaddedLayout(),
        "grouped": GroupedLayout(setting, window_tokens=None),
        "decomposed": DecomposedLayout(setting),
        "decomposed, unequal": DecomposedLayout(setting, pieces="unequal"),
        "packed": PackedLayout(),
    }


def compare(
    bench: AttentionBench, contexts: IntArray, law: RectangleAttention, options: argparse.Namespace
) -> list[dict[str, object]]:
    """A row for each layout of one batch."""
    shape, dtype = bench.shape, bench.pool.keys.dtype
    of_token = AttentionShape(shape.num_heads, shape.num_kv_heads, shape.head_dim, dtype.itemsize)
    queries = np.full(len(contexts), options.query_rows)
    spans, slots = verify_spans(contexts, options.query_rows), bench.slots_of(contexts)
    plans = {name: layout.plan(queries, contexts) for name, layout in layouts(law).items()}
    counted = {name: peak_bytes(plan, of_token) for name, plan in plans.items()}
    fits = [name for name in plans if counted[name] <= 1e6 * options.memory_budget_mb]
    runs = [lambda plan=plans[name]: bench.seconds(spans, slots, plan) for name in fits]
    times = dict(zip(fits, timed_ms(runs, options.repeats, len(contexts)), strict=True))
    padding = plans["padded"].padded_cells / (plans["padded"].useful_cells + plans["padded"].padded_cells)
    rows = []
    for name, plan in plans.items():
        ms = times.get(name, np.full(1, np.nan))
        over = ms / times["padded"] if "padded" in times and name in times else np.full(1, np.nan)
        measured = bench.peak_bytes(spans, slots, plan) if name in times else np.nan
        rows.append(
            {
                "dtype": str(dtype).removeprefix("torch."),
                "batch": len(contexts),
                "longest (tokens)": int(contexts.max()),
                "padding of padded": padding,
                "layout": name,
                "runs": name in times,
                "median (ms)": float(np.median(ms)),
                "min (ms)": float(ms.min()),
                "max (ms)": float(ms.max()),
                "over padded": float(np.median(over)),
                "over padded, min": float(over.min()),
                "over padded, max": float(over.max()),
                "padding": plan.padded_cells / (plan.useful_cells + plan.padded_cells),
                "calls": len(plan.rectangles) or len(contexts),
                "rows": plan.shape.num_pieces or len(contexts),
                "width (tokens)": max((r.key_width for r in plan.rectangles), default=0),
                "touched per layer (MB)": touched_bytes(plan, of_token) / 1e6,
                "peak, counted (MB)": counted[name] / 1e6,
                "peak, measured (MB)": measured / 1e6,
            }
        )
    return rows


def main() -> None:
    """Measure, then write CSV, figure and README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/decomposition"), help="folder")
    parser.add_argument("--lengths", type=Path, help="CSV of Azure's trace, e.g. azure_conv_2023.csv")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64], help="1 to 64 each")
    parser.add_argument("--query-rows", type=int, default=5, help="newest and drafted tokens of each request (K + 1)")
    parser.add_argument("--memory-budget-mb", type=float, default=200.0, help="beside the KV cache, in 1e6 bytes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the draw of contexts")
    options = parser.parse_args()
    if not all(1 <= batch <= LARGEST_BATCH for batch in options.batch_sizes):
        parser.error(f"--batch-sizes must lie between 1 and {LARGEST_BATCH}")
    if options.lengths is not None and not options.lengths.is_file():
        parser.error(f"--lengths: there is no file {options.lengths}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    target = load_target("smollm2-135m-instruct", torch.float32, torch.device("cpu"))
    shape, longest = KvShape.of(target.model.config), target.max_model_len_tokens
    drawn, longest_of_traffic = traffic_lengths(options.lengths, LARGEST_BATCH, np.random.default_rng(options.seed))
    contexts = np.maximum(options.query_rows + 1, np.rint(drawn * (longest / longest_of_traffic)).astype(np.int64))
    pool_tokens = int((-(-contexts // BLOCK_SIZE) * BLOCK_SIZE).sum())
    rows = []
    for dtype in options.dtypes:
        bench = AttentionBench(shape, pool_tokens, getattr(torch, dtype), device)
        law = fit_law(bench, options.query_rows, options.repeats)
        for batch in track(options.batch_sizes, description=dtype):
            rows += compare(bench, contexts[:batch], law, options)
        del bench
    source = "Azure's conversations of 2023" if options.lengths else "the law of traces/synthetic_chat.yaml"
    facts = (
        f"{source}, scaled by {longest / longest_of_traffic:.2f} to the {longest} tokens of {target.name}; "
        f"{options.query_rows} query rows a request; {device.type}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}; median of {options.repeats} repeats"
    )
    arguments = ["..." if argument == str(options.lengths) else argument for argument in sys.argv[1:]]
    command = " ".join(["python -m benchmarks.decomposition", *arguments])
    write_report(options.out, pd.DataFrame(rows), facts, command, options.memory_budget_mb)


if __name__ == "__main__":
    run_main(main)
