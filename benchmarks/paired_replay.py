"""Throughput of whole replays as ratios: methods take turns within a repeat, so that a slow spell hits all alike.

    python -m benchmarks.paired_replay --out reports/benchmarks/batch8.csv --common scheduler.max_num_seqs=8 \\
        --method "plain: selector=plain" --method "lookup: selector=fixed selector.drafter=prompt_lookup"

Each run is `spinbench replay` in a process of its own, with all requests at once and their own lengths. Ratios are over
the first method, within a repeat; the median of the repeats is given with the smallest and the largest. A CSV that is
there is gone on with.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import track


def replay(overrides: list[str]) -> dict[str, float]:
    """One run's throughput and acceptance length."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "spinbench", "replay", "arrivals=all_at_once", *overrides]
        subprocess.run([*command, f"hydra.run.dir={folder}/run"], check=True, stdout=subprocess.DEVNULL)
        summary = json.loads(Path(folder, "run", "summary.json").read_text(encoding="utf-8"))
    return {
        "output_throughput": summary["output_throughput"],
        "acceptance_length": summary["acceptance_length"],
        "output_tokens": summary["total_output_tokens"],
    }


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Per method: median throughput, and its ratio over the first method's within each repeat."""
    runs = table.pivot(index="repeat", columns="method", values="output_throughput")
    names = list(table["method"].drop_duplicates())
    rows = []
    for name in names:
        ratio = (runs[name] / runs[names[0]]).dropna()
        own = table[table["method"] == name]
        rows.append(
            {
                "method": name,
                "output tokens/s": own["output_throughput"].median(),
                f"over {names[0]}": f"{ratio.median():.2f} ({ratio.min():.2f}..{ratio.max():.2f})",
                "acceptance length": own["acceptance_length"].median(),
                "repeats": len(own),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Measure and print; the CSV is written after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", action="append", required=True, help="NAME: OVERRIDES; the first is the baseline")
    parser.add_argument("--common", default="", help="overrides of all methods")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="CSV of every run")
    options = parser.parse_args()
    methods = {}
    for method in options.method:
        name, _, overrides = method.partition(": ")
        methods[name] = shlex.split(overrides)
    rows = pd.read_csv(options.out).to_dict("records") if options.out.is_file() else []
    done = {(row["method"], row["repeat"]) for row in rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plan = [(repeat, name) for repeat in range(options.repeats) for name in methods if (name, repeat) not in done]
    for repeat, name in track(plan, description="measuring"):
        measured = replay([*shlex.split(options.common), *methods[name]])
        rows.append({"method": name, "repeat": repeat, **measured})
        pd.DataFrame(rows).round(4).to_csv(options.out, index=False)
    Console(width=160).print(ratios(pd.DataFrame(rows)).to_markdown(index=False, floatfmt=".4g"))


if __name__ == "__main__":
    main()
