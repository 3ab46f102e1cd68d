"""A sweep of 2,000 simulated points, undisturbed, and killed at random and gone on with: how long, and is it the same?

python -m benchmarks.sweep_resume --out reports/sweeps

5 selectors x 4 layouts x 5 K x 4 depths x 5 loads on SPIN's set-up (LLaMA-7B and five drafters, each on a V100 of its
own; an analytic profile, which is made first), since the shipped profile has no decomposed layout. Each kill is a
SIGKILL of the command, of one worker or of all of them, when a random share of the points is done; a command that was
killed is given again. `same_table` compares points.parquet byte for byte.
"""

import argparse
import hashlib
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import psutil

from benchmarks.entry import run_main
from spinbench.sweep.folder import POINT_FILE, TABLE_FILE

PROFILE = (
    "profile", "device=v100_32gb_spin", "models=llama_7b", "layouts=[packed,padded,grouped,decomposed]",
    "max_num_seqs=64",
)  # fmt: skip
SWEPT = (
    "selector=random,greedy,epsilon_greedy,ucb1,spin",
    "verification=packed,padded,grouped,decomposed",
    "drafting.num_speculative_tokens=1,2,4,6,8",
    "pipeline.depth=1,2,3,4",
    "arrivals.request_rate=0.5,1,2,4,8",
)
TARGETS = ("command", "one worker", "all workers")
LOOK_S = 0.05


def sweep_command(options: argparse.Namespace, profile: Path, folder: Path, launcher: Sequence[str]) -> list[str]:
    """The command line of the whole sweep; `launcher`: overrides that choose one and its workers."""
    fixed = (
        "engine=simulation", "models=llama_7b", f"engine.profile={profile}", "engine.acceptance=synthetic",
        "engine.source=llama_drafters_mix_like.yaml", "trace=synthetic", "trace.path=mix_like.yaml",
        f"trace.num_prompts={options.num_prompts}", "arrivals=poisson", "pipeline=micro_batches",
        "placement=own_devices", "keep=summary", f"hydra.sweep.dir={folder}", *launcher,
    )  # fmt: skip
    return [sys.executable, "-m", "spinbench", "replay", "-m", *fixed, *options.swept]


def make_profile(runs: Path) -> Path:
    """The profile that all points are priced by, in an emptied folder."""
    shutil.rmtree(runs, ignore_errors=True)
    profile = (runs / "profile").absolute()
    subprocess.run([sys.executable, "-m", "spinbench", *PROFILE, f"hydra.run.dir={profile}"], check=True)
    return profile


def num_points(swept: Sequence[str]) -> int:
    """How many there are of the values that are swept."""
    return math.prod(one.count(",") + 1 for one in swept)


def begin(command: list[str]) -> subprocess.Popen[bytes]:
    """Start it, without its table of failures on the screen."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def num_done(folder: Path) -> int:
    """Points whose result is whole."""
    return sum(1 for _ in folder.glob(f"*/{POINT_FILE}"))


def await_done(process: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    """Until so many points are done. Raises SystemExit where it ends first."""
    while num_done(folder) < count and process.poll() is None:
        time.sleep(LOOK_S)
    if process.poll() is not None:
        raise SystemExit(f"it ended before {count} points were done, with exit code {process.returncode}")


def kill(process: subprocess.Popen[bytes], target: str, rng: random.Random) -> None:
    """SIGKILL, as a machine that fails or an administrator would."""
    workers = psutil.Process(process.pid).children()
    doomed = workers if target == "all workers" else rng.sample(workers, min(1, len(workers)))
    if target == "command":
        process.kill()
        process.wait()
        return
    for worker in doomed:
        worker.kill()


def run(command: list[str], folder: Path, total: int, kills: int, seed: int) -> dict[str, object]:
    """Run the sweep to its end, killing as often as asked for on the way."""
    rng = random.Random(seed)
    plan = sorted(rng.sample(range(total // 20, total - total // 20), kills))
    killed: list[str] = []
    starts = 1
    begun_s = time.perf_counter()
    process = begin(command)
    while plan:
        await_done(process, folder, plan.pop(0))
        target = TARGETS[len(killed) % len(TARGETS)]
        kill(process, target, rng)
        killed.append(f"{target} at {num_done(folder)}")
        if target == "command":
            process = begin(command)
            starts += 1
    process.wait()
    wall_s = time.perf_counter() - begun_s
    ended = {"kills": "; ".join(killed) or "none", "commands": starts}
    return {**outcome(folder, process.returncode, wall_s), **ended}


def outcome(folder: Path, exit_code: int, wall_s: float) -> dict[str, object]:
    """A row about a sweep that ended. Raises SystemExit where it left no table."""
    if not (folder / TABLE_FILE).exists():
        raise SystemExit(f"the sweep ended with exit code {exit_code} and left no table")
    rows = len(pd.read_parquet(folder / TABLE_FILE))
    return {
        "points": rows,
        "wall_s": round(wall_s, 1),
        "s_per_point": round(wall_s / rows, 3),
        "exit_code": exit_code,
        "table_sha256": hashlib.sha256((folder / TABLE_FILE).read_bytes()).hexdigest(),
    }


def parser(doc: str | None, runs: Path) -> argparse.ArgumentParser:
    """What a benchmark of this sweep is asked."""
    asked = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=Path, default=runs, help="folder of the sweeps; emptied")
    asked.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--num-prompts", type=int, default=32, help="requests of each simulation")
    asked.add_argument("--swept", nargs="+", default=list(SWEPT), help="what is swept, to try it in small")
    asked.add_argument("--out", type=Path, help="folder of the CSV")
    return asked


def conclude(rows: list[dict[str, object]], options: argparse.Namespace, name: str) -> None:
    """Write the CSV if asked to. Raises SystemExit where the tables differ."""
    table = pd.DataFrame(rows)
    table["workers"], table["num_prompts"] = options.workers, options.num_prompts
    table["same_table"] = table["table_sha256"] == table["table_sha256"].iloc[0]
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out / name, index=False)
    if not table["same_table"].all():
        raise SystemExit("the tables differ")


def main() -> None:
    """Run both, print, and write a CSV if asked to."""
    asked = parser(__doc__, Path("runs/sweep_resume"))
    asked.add_argument("--kills", type=int, default=3)
    asked.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = asked.parse_args()
    profile, total = make_profile(options.runs), num_points(options.swept)
    launcher = ("launcher=processes", f"launcher.workers={options.workers}")
    rows: list[dict[str, object]] = []
    for name, kills in (("undisturbed", 0), ("killed", options.kills)):
        folder = options.runs / name
        command = sweep_command(options, profile, folder, launcher)
        rows.append({"sweep": name, **run(command, folder, total, kills, options.seed)})
        print(pd.DataFrame(rows).T.to_string(), flush=True)
    conclude(rows, options, "sweep_resume.csv")


if __name__ == "__main__":
    run_main(main)
