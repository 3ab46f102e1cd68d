"""A sweep of 2,000 simulated points, undisturbed, and killed at random and gone on with: how long, and is it the same?

python -m benchmarks.sweep_resume --out reports/sweeps

5 selectors x 4 layouts x 5 K x 4 depths x 5 loads on SPIN's set-up (LLaMA-7B and five drafters, each on a V100 of its
own; an analytic profile, which is made first), since the shipped profile has no decomposed layout. Each kill is a
SIGKILL of the command, of one worker or of all of them, when a random share of the points is done; a command that was
killed is given again. `same_table` compares points.parquet byte for byte.
"""

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil

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


def sweep_command(options: argparse.Namespace, profile: Path, folder: Path) -> list[str]:
    """The command line of the whole sweep."""
    fixed = (
        "engine=simulation", "models=llama_7b", f"engine.profile={profile}", "engine.acceptance=synthetic",
        "engine.source=llama_drafters_mix_like.yaml", "trace=synthetic", "trace.path=mix_like.yaml",
        f"trace.num_prompts={options.num_prompts}", "arrivals=poisson", "pipeline=micro_batches",
        "placement=own_devices", "keep=summary", "launcher=processes", f"launcher.workers={options.workers}",
        f"hydra.sweep.dir={folder}",
    )  # fmt: skip
    return [sys.executable, "-m", "spinbench", "replay", "-m", *fixed, *options.swept]


def begin(command: list[str]) -> subprocess.Popen[bytes]:
    """Start it, without its table of failures on the screen."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def num_done(folder: Path) -> int:
    """Points whose result is whole."""
    return sum(1 for _ in folder.glob(f"*/{POINT_FILE}"))


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
        while num_done(folder) < plan[0] and process.poll() is None:
            time.sleep(LOOK_S)
        if process.poll() is not None:
            raise SystemExit(f"it ended before {plan[0]} points were done, with exit code {process.returncode}")
        plan.pop(0)
        target = TARGETS[len(killed) % len(TARGETS)]
        kill(process, target, rng)
        killed.append(f"{target} at {num_done(folder)}")
        if target == "command":
            process = begin(command)
            starts += 1
    code = process.wait()
    wall_s = time.perf_counter() - begun_s
    if not (folder / TABLE_FILE).exists():
        raise SystemExit(f"the sweep ended with exit code {code} and left no table")
    table = (folder / TABLE_FILE).read_bytes()
    rows = len(pd.read_parquet(folder / TABLE_FILE))
    return {
        "points": rows,
        "wall_s": round(wall_s, 1),
        "s_per_point": round(wall_s / rows, 3),
        "kills": "; ".join(killed) or "none",
        "commands": starts,
        "exit_code": code,
        "table_sha256": hashlib.sha256(table).hexdigest(),
    }


def main() -> None:
    """Run both, print, and write a CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/sweep_resume"), help="folder of the sweeps; emptied")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--num-prompts", type=int, default=32, help="requests of each simulation")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--swept", nargs="+", default=list(SWEPT), help="what is swept, to try it in small")
    parser.add_argument("--out", type=Path, help="folder of sweep_resume.csv")
    options = parser.parse_args()
    shutil.rmtree(options.runs, ignore_errors=True)
    profile = (options.runs / "profile").absolute()
    subprocess.run([sys.executable, "-m", "spinbench", *PROFILE, f"hydra.run.dir={profile}"], check=True)
    total = 1
    for one in options.swept:
        total *= one.count(",") + 1
    rows = []
    for name, kills in (("undisturbed", 0), ("killed", options.kills)):
        folder = options.runs / name
        rows.append({"sweep": name, **run(sweep_command(options, profile, folder), folder, total, kills, options.seed)})
        print(pd.DataFrame(rows).T.to_string(), flush=True)
    table = pd.DataFrame(rows)
    table["workers"], table["num_prompts"] = options.workers, options.num_prompts
    table["same_table"] = table["table_sha256"] == table["table_sha256"].iloc[0]
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out / "sweep_resume.csv", index=False)
    if not table["same_table"].all():
        raise SystemExit("the tables differ")


if __name__ == "__main__":
    main()
