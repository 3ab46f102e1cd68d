"""How long the simulator takes, by the length of the trace: one process on one core for each length.

python -m benchmarks.simulation_speed --trace azure_conv_2023.csv --profile PROFILE --out FOLDER

`serving_s` is the simulation itself, acceptance included; the others count the whole command: imports, trace, metrics
and files too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.progress import track

from benchmarks.entry import run_main
from spinbench.metrics.store import read_run

COUNTS = (1000, 2000, 5000, 10_000, 19_366)


def measure(options: argparse.Namespace, num_prompts: int, folder: Path) -> dict[str, float]:
    """Run one simulation; seconds of wall clock and of the processor, peak memory, and what was simulated."""
    command = [
        sys.executable, "-m", "spinbench", "replay", "engine=simulation", "models=llama_7b", "trace=azure_2023",
        f"trace.path={options.trace}", f"trace.num_prompts={num_prompts}", f"engine.profile={options.profile}",
        "engine.acceptance=synthetic", "engine.source=llama_drafters.yaml", f"selector={options.selector}",
        f"scheduler.max_num_seqs={options.max_num_seqs}", f"hydra.run.dir={folder}",
    ]  # fmt: skip
    begun_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - begun_s
    if status:
        raise SystemExit(f"failed: {(process.stderr.read() if process.stderr else b'').decode()}")
    run = read_run(folder)
    return {
        "requests": num_prompts,
        "output_tokens": int(run.summary["total_output_tokens"]),
        "rounds": int(run.rounds["round_index"].max()) + 1,
        "serving_s": float(run.meta["wall_s"]),
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_memory_mb": usage.ru_maxrss / 1024,
        "simulated_s": float(run.summary["duration"]),
    }


def main() -> None:
    """Measure, print, and write a CSV and a figure if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, required=True, help="the Azure 2023 conversation trace")
    parser.add_argument("--profile", type=Path, required=True, help="folder of a profile of models=llama_7b")
    parser.add_argument("--selector", default="spin")
    parser.add_argument("--max-num-seqs", type=int, default=128)
    parser.add_argument("--out", type=Path, help="folder of simulation_speed.csv and .png")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, children included
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in track(COUNTS, description="simulating"):
            rows.append(measure(options, count, Path(scratch) / str(count)))
    table = pd.DataFrame(rows)
    print(table.to_markdown(index=False, floatfmt=".1f"))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        table.round(3).to_csv(options.out / "simulation_speed.csv", index=False)
        figure = Figure(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        sns.lineplot(x=table["output_tokens"] / 1e6, y=table["cpu_s"], marker="o", ax=axes)
        axes.set(
            xlabel="output tokens simulated (millions)", ylabel="processor time (s)", xlim=(0, None), ylim=(0, None)
        )
        per_million = table["cpu_s"].iloc[-1] / table["output_tokens"].iloc[-1] * 1e6
        axes.set_title(f"Time grows linearly with the trace: {per_million:.1f} s for a million tokens")
        figure.savefig(options.out / "simulation_speed.png", dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    run_main(main)
