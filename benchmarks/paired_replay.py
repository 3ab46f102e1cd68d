"""Throughput of whole replays as ratios: methods take turns within a repeat, so that a slow spell hits all alike.

    python -m benchmarks.paired_replay --out reports/benchmarks/batch8.csv --common scheduler.max_num_seqs=8 \\
        --method "plain: selector=plain" --method "lookup: selector=fixed selector.drafter=prompt_lookup"

Each run is a `spinbench replay` with all requests at once and their own lengths; models stay loaded between runs, and
each warms up first. Ratios are over the first method, within a repeat; the median of the repeats is given with the
smallest and the largest. Runs are kept in --runs: the same command goes on where it was ended.
"""

import argparse
import shlex
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmarks.entry import run_main
from spinbench.cli.replay.command import Replay
from spinbench.cli.sweep.paired_runs import run_in_turns
from spinbench.report.comparison.paired import paired_ratios


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Per method: median throughput, and its ratio over the first method's within each repeat."""
    base = str(table["method"].iloc[0])
    rows = []
    for one in paired_ratios(table, base):
        own = table[table["method"] == one.method]
        rows.append(
            {
                "method": one.method,
                "output tokens/s": own["output_throughput"].median(),
                f"over {base}": f"{one.median:.2f} ({one.low:.2f}..{one.high:.2f})",
                "acceptance length": own["acceptance_length"].median(),
                "repeats": one.repeats,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Measure, write the CSV and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", action="append", required=True, help="NAME: OVERRIDES; the first is the baseline")
    parser.add_argument("--common", default="", help="overrides of all methods")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="CSV of every run")
    parser.add_argument("--runs", type=Path, help="folder of the runs (default runs/paired/ and the CSV's name)")
    options = parser.parse_args()
    common = ["arrivals=all_at_once", *shlex.split(options.common)]
    methods = {}
    for method in options.method:
        name, _, overrides = method.partition(": ")
        methods[name] = [*common, *shlex.split(overrides)]
    runs = options.runs or Path("runs", "paired", options.out.stem)
    table = run_in_turns(runs, methods, options.repeats, shlex.join(sys.argv), Replay())
    failed = table[table["failure"] != ""]
    for row in failed.to_dict("records"):
        print(f"failed: {row['method']}, repeat {row['repeat']}: {row['failure']}", file=sys.stderr)
    table = table[table["failure"] == ""]
    columns = ["method", "repeat", "output_throughput", "acceptance_length", "total_output_tokens"]
    renamed = table[columns].rename(columns={"total_output_tokens": "output_tokens"})
    options.out.parent.mkdir(parents=True, exist_ok=True)
    renamed.astype({"output_throughput": float, "acceptance_length": float}).round(4).to_csv(options.out, index=False)
    Console(width=160).print(ratios(renamed).to_markdown(index=False, floatfmt=".4g"))


if __name__ == "__main__":
    run_main(main)
