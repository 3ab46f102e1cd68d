"""What preparing KV ahead of a switch is worth: stall per switch and throughput with and without, simulated and real.

python -m benchmarks.switching --out reports/switching

A real point is a `spinbench replay`, kept below --runs and not run again, so that an interrupted benchmark goes on
where it was; a simulated one takes a second or two. Each set-up leaves a CSV, and the page is made of all that are
there.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.entry import run_main
from benchmarks.simulations import Simulations
from benchmarks.switching_report import page_table, write_page
from benchmarks.switching_set_ups import SWITCHING, SetUp, set_ups
from spinbench.metrics.metric import MetricValue
from spinbench.metrics.store import read_run
from spinbench.metrics.summary import summarise
from spinbench.metrics.switching import switch_stalls_ms
from spinbench.metrics.tables import RunTables, tables_from_record

PROFILE = ["device=v100_32gb", "models=llama_7b", "max_context_tokens=4096"]
DTYPES = ("float32", "bfloat16")


def run(command: Sequence[str]) -> None:
    """One command of spinbench. Exits with what it says when it fails."""
    done = subprocess.run([sys.executable, "-m", "spinbench", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"failed: spinbench {' '.join(command)}\n{done.stderr}")


class Points:
    """Runs points, simulated or real."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._simulations = Simulations()

    def tables(self, set_up: SetUp, overrides: tuple[str, ...], repeat: int) -> RunTables:
        """What happened in one of them."""
        repeated = (*set_up.overrides, *overrides, f"repeat={repeat}")
        if not set_up.is_real:
            record, _ = self._simulations.run(self._simulations.config(*repeated))
            return tables_from_record(record)
        folder = self._runs / "-".join((set_up.key, *(part.split("=")[1] for part in overrides), str(repeat)))
        if not (folder / "summary.json").exists():
            run(["replay", *repeated, f"hydra.run.dir={folder}"])
        return read_run(folder).tables


def _numbers(summaries: Sequence[Mapping[str, MetricValue]], key: str) -> list[float]:
    """A metric of every run that has it."""
    return [float(value) for value in (summary[key] for summary in summaries) if isinstance(value, int | float)]


def measure(
    points: Points, set_up: SetUp, selector: tuple[str, ...], lanes: tuple[str, ...]
) -> list[dict[str, object]]:
    """With and without, over the repeats."""
    rows: list[dict[str, object]] = []
    measured: dict[str, list[RunTables]] = {switching: [] for switching in SWITCHING}
    # turn by turn, so that a machine that warms up or is busy for a while favours neither
    for repeat, switching in product(range(set_up.repeats), SWITCHING):
        measured[switching].append(points.tables(set_up, (*selector, *lanes, f"switching={switching}"), repeat))
    for switching in SWITCHING:
        found = measured[switching]
        summaries = [summarise(tables) for tables in found]
        speeds, lengths = _numbers(summaries, "output_throughput"), _numbers(summaries, "acceptance_length")
        stalls_ms = np.concatenate([switch_stalls_ms(tables) for tables in found])
        catch_up_s = [
            float((spans["end_s"] - spans["start_s"])[spans["kind"] == "catch_up"].sum())
            for spans in (tables.spans for tables in found)
        ]
        rows.append(
            {
                "set-up": set_up.key,
                "selector": selector[0].split("=")[1],
                "lanes": ", ".join(part.split("=")[1] for part in lanes),
                "switching": switching,
                "tokens_per_s": float(np.median(speeds)),
                "tokens_per_s_min": min(speeds),
                "tokens_per_s_max": max(speeds),
                "acceptance_length": float(np.median(lengths)),
                "switches": len(stalls_ms) / len(found),
                "stalled_share": float((stalls_ms > 0).mean()) if len(stalls_ms) else float("nan"),
                "mean_stall_ms": float(stalls_ms.mean()) if len(stalls_ms) else float("nan"),
                "p99_stall_ms": float(np.percentile(stalls_ms, 99)) if len(stalls_ms) else float("nan"),
                "catch_up_s": float(np.median(catch_up_s)),
                "duration_s": float(np.median([tables.duration_s for tables in found])),
            }
        )
    return rows


def main() -> None:
    """Run what is asked for, print, and write tables and page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/switching"), help="where the runs are kept")
    parser.add_argument("--out", type=Path, help="folder of the CSVs and README.md")
    parser.add_argument("--only", nargs="*", help="set-ups to run; all without it")
    options = parser.parse_args()
    profiles = (options.runs / "v100").absolute()
    for dtype in DTYPES:
        if not (profiles / dtype / "meta.yaml").exists():
            run(["profile", *PROFILE, f"engine.dtype={dtype}", f"hydra.run.dir={profiles / dtype}"])
    points, all_set_ups = Points(options.runs), set_ups(profiles)
    for set_up in all_set_ups:
        if options.only is not None and set_up.key not in options.only:
            continue
        pairs = product(set_up.selectors, set_up.lanes)
        table = pd.DataFrame([row for pair in pairs for row in measure(points, set_up, *pair)])
        print(f"{set_up.title}\n{page_table(table).to_markdown(index=False, disable_numparse=True)}\n", flush=True)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            table.round(4).to_csv(options.out / f"{set_up.key}.csv", index=False)
    if options.out:
        write_page(options.out, all_set_ups)


if __name__ == "__main__":
    run_main(main)
