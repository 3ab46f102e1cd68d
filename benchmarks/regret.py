"""Regret curves of all selectors, simulated from the table and the profile that come with spinbench.

python -m benchmarks.regret --out reports/regret

Regret is the decoding time beyond the oracle's, added up request by request; the oracle knows every text and chooses
drafter and K at every token (batch 1: the exact optimum with KV catch-up for nothing; larger batches: a bound that
nobody can reach). A seed stands for a sample of the trace's requests and for the selector's draws. What was simulated
is kept below --cache, so an interrupted run goes on where it was, and another selector costs only its own runs.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from hydra import initialize_config_dir
from rich.progress import track

from benchmarks.entry import run_main
from benchmarks.regret_report import BAND, write_page
from benchmarks.regret_runs import CONF, Runs, Task, all_methods

EVERY = 4
"""Requests between two points of the table that is kept."""


def simulate_all(options: argparse.Namespace) -> pd.DataFrame:
    """Cumulated regret by method, batch, seed and requests served."""
    methods = all_methods()
    tasks = [
        Task(method, tuple(overrides), batch, seed)
        for seed in range(options.seeds)  # by seed: stopped early, there is a bit of everything
        for batch in options.batches
        for method, overrides in methods.items()
    ]
    runs = Runs(options.cache, options.num_prompts)
    tables = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for task in track(tasks, description="simulating"):
            regret_s = runs.regret_s(task).cumsum()
            served = np.arange(1, len(regret_s) + 1)
            kept = served % EVERY == 0
            frame = pd.DataFrame({"requests": served[kept], "regret_s": regret_s[kept]})
            tables.append(frame.assign(method=task.method, batch=task.batch, seed=task.seed))
    return pd.concat(tables, ignore_index=True)


def with_best_fixed_only(table: pd.DataFrame) -> pd.DataFrame:
    """Of the fixed drafters only the one that was best at each batch size in hindsight, over all seeds."""
    is_fixed = table["method"].str.startswith("fixed ")
    last = table[is_fixed & (table["requests"] == table["requests"].max())]
    totals = last.groupby(["batch", "method"])["regret_s"].mean()
    parts = [table[~is_fixed]]
    for batch, best in totals.groupby("batch").idxmin().items():
        own = table[(table["batch"] == batch) & (table["method"] == best[1])]
        parts.append(own.assign(method=f"best {best[1]}"))
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Regret at the end in seconds a request, best first, and how often a method was better than the best fixed one."""
    last = table[table["requests"] == table["requests"].max()]
    rows = []
    for (batch, method), own in last.groupby(["batch", "method"]):
        per_request = own.set_index("seed")["regret_s"] / own["requests"].max()
        rival = last[(last["batch"] == batch) & last["method"].str.startswith("best fixed")].set_index("seed")
        wins = (per_request < rival["regret_s"] / own["requests"].max()).mean()
        low, high = per_request.quantile(list(BAND))
        rows.append(
            {
                "batch": batch,
                "method": method,
                "regret_s_per_request": per_request.mean(),
                "p5": low,
                "p95": high,
                "better_than_best_fixed": f"{wins:.0%}",
            }
        )
    return pd.DataFrame(rows).sort_values(["batch", "regret_s_per_request"], ignore_index=True)


def main() -> None:
    """Simulate, print the table at the end of the curves, and write figure, CSV and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument(
        "--num-prompts", type=int, default=120, help="requests of a run, drawn from the 240 of the trace"
    )
    parser.add_argument("--cache", type=Path, default=Path("runs/regret"), help="folder of what was simulated")
    parser.add_argument("--out", type=Path, help="folder of README.md, regret.png and regret.csv")
    options = parser.parse_args()
    table = with_best_fixed_only(simulate_all(options))
    ranked = summary(table)
    text = ranked.to_markdown(index=False, floatfmt=".3f")
    print(text)
    if options.out:
        seeds = f"{options.seeds} seeds x {options.num_prompts} requests"
        batches = " ".join(str(batch) for batch in options.batches)
        given = f"--seeds {options.seeds} --batches {batches} --num-prompts {options.num_prompts}"
        write_page(options.out, table, ranked, text, seeds, f"python -m benchmarks.regret {given} --out reports/regret")


if __name__ == "__main__":
    run_main(main)
