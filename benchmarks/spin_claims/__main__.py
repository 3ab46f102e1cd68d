"""Every claim of SPIN's paper (arXiv 2503.15921), simulated on its reconstructed set-up, beside the paper's figures.

python -m benchmarks.spin_claims

makes the profiles that are missing, runs the sweeps of `conf/experiment` below --runs and writes --out. Runs that are
there are kept, so it goes on where it was; --minutes ends it early, between two runs. Real runs are not made here: what
they measured is read from OUT/measured.csv (columns claim, value, command), which may lack rows.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.entry import run_main
from benchmarks.spin_claims.page import write_page
from benchmarks.spin_claims.runs import claim_table, run_sweep
from benchmarks.spin_claims.sweeps import LAYOUTS, TARGETS, sweeps
from spinbench.calibration.profile.profile_file import META_FILE
from spinbench.cli.hydra_app.app import run_hydra_app
from spinbench.cli.profile.command import ProfileCommand


def make_profiles(folder: Path) -> None:
    """Those of the reconstruction, in `folder`, unless they are there."""
    for models, (target, device, count, dtype) in TARGETS.items():
        path = folder / f"{target}-{device}-{dtype}"
        if (path / META_FILE).exists():
            continue
        arguments = [f"device={device}", f"models={models.partition(',')[0]}", f"tensor_parallel={count}"]
        arguments += [f"engine.dtype={dtype}", f"layouts=[{','.join(LAYOUTS)}]", "max_num_seqs=64"]
        if run_hydra_app("profile", ProfileCommand, [*arguments, f"hydra.run.dir={path}"]):
            raise SystemExit(f"{path}: could not be made")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/spin"), help="folder of the runs, kept between calls")
    parser.add_argument("--out", type=Path, default=Path("reports/spin"), help="folder of the report")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further run after so long")
    options = parser.parse_args()
    deadline_s = time.monotonic() + 60 * options.minutes
    make_profiles(Path("profiles"))
    missing = 0
    for name, arguments in sweeps():
        missing += run_sweep([*arguments, f"hydra.sweep.dir={options.runs / name}"], deadline_s)
    if missing:
        print(f"{missing} runs are still to be made; the same command goes on", file=sys.stderr)
        return
    table = claim_table(options.runs)
    options.out.mkdir(parents=True, exist_ok=True)
    table.drop(columns="request_speed").round(5).to_csv(options.out / "runs.csv", index=False)
    write_page(options.out, table)
    print(f"report in {options.out / 'README.md'}")


if __name__ == "__main__":
    run_main(main)
