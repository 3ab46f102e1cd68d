"""The sweep of benchmarks.sweep_resume on clusters: by submitit, and on two Ray nodes of which one dies half way.

    pip install 'spinbench[ray,slurm]'
    python -m benchmarks.sweep_cluster --out reports/sweeps

Both nodes are on this machine: two raylets with a core each. When half of the points are done, the second one and all
that runs under it get a SIGKILL, as when a machine is lost. submitit runs its local executor, processes of this machine
instead of Slurm's. `same_table` compares points.parquet with that of launcher=processes, byte for byte.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil

from benchmarks.entry import run_main
from benchmarks.sweep_resume import (
    await_done,
    begin,
    conclude,
    make_profile,
    num_done,
    num_points,
    outcome,
    parser,
    sweep_command,
)

PORT = 6399
ADDRESS = f"127.0.0.1:{PORT}"


def ray(*words: str) -> None:
    """Ray's own command. Raises CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *words], check=True, stdout=subprocess.DEVNULL)


def raylets() -> set[int]:
    """Process ids of the nodes that run here."""
    return {process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "raylet"}


@contextmanager
def two_nodes() -> Iterator[psutil.Process]:
    """A cluster of two, of one core each; the second one's raylet."""
    before = raylets()
    if before:
        raise SystemExit(f"Ray runs here already (process {min(before)}); stop it first: this ends it with `ray stop`")
    try:
        ray("start", "--head", f"--port={PORT}", "--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats")
        first = raylets()
        ray("start", f"--address={ADDRESS}", "--num-cpus=1", "--disable-usage-stats")
        (second,) = raylets() - first
        yield psutil.Process(second)
    finally:
        ray("stop", "--force")


def lose(node: psutil.Process) -> int:
    """SIGKILL to a node and all below it; how many processes that were."""
    doomed = [node, *node.children(recursive=True)]
    for process in doomed:
        process.kill()
    psutil.wait_procs(doomed, timeout=10)
    return len(doomed)


def main() -> None:
    """Run the three, print, and write a CSV if asked to."""
    options = parser(__doc__, Path("runs/sweep_cluster")).parse_args()
    os.environ["RAY_AUTH_MODE"] = "token"  # as `ray start --head` sets it up, for whoever joins
    profile, total = make_profile(options.runs), num_points(options.swept)
    rows: list[dict[str, object]] = []

    def sweep(name: str, *launcher: str, node: psutil.Process | None = None) -> None:
        folder = options.runs / name
        begun_s = time.perf_counter()
        process = begin(sweep_command(options, profile, folder, launcher))
        lost = "none"
        if node is not None:
            await_done(process, folder, total // 2)
            lost = f"a node ({lose(node)} processes) at {num_done(folder)} points"
        code = process.wait()
        rows.append({"sweep": name, **outcome(folder, code, time.perf_counter() - begun_s), "lost": lost})
        print(pd.DataFrame(rows).T.to_string(), flush=True)

    sweep("processes", "launcher=processes", f"launcher.workers={options.workers}")
    sweep("submitit", "launcher=slurm", "launcher.cluster=local", f"launcher.workers={options.workers}")
    with two_nodes() as second:
        sweep("ray", "launcher=ray", f"launcher.address={ADDRESS}", f"launcher.workers={options.workers}", node=second)
    conclude(rows, options, "sweep_cluster.csv")


if __name__ == "__main__":
    run_main(main)
