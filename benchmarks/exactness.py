"""Whether the simulator decides and accepts what the runtime did: runs made again with their own durations.

python -m benchmarks.exactness --table TABLE --out reports/exactness/float32.md RUN...

Every job takes what it took in the run, so each decision must come out the same, also one that looks at time: the
drafter chosen, K, drafted and accepted tokens of every (round, request), from the acceptance table alone.
"""

import argparse
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from benchmarks.entry import run_main
from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.engine.simulated import SimulatedEngine
from spinbench.metrics.store import Run, find_runs, read_run
from spinbench.metrics.validation import RoundsCompared


def decide_again(engine: SimulatedEngine, run: Run, options: argparse.Namespace) -> RoundsCompared:
    """The run's rounds against those that the simulator makes of its durations."""
    simulation = {
        "kind": "simulation", "profile": options.profile, "acceptance": "table", "source": str(options.table),
        "acceptance_seed": 0, "oracle_num_speculative_tokens": None,
    }  # fmt: skip
    config = OmegaConf.create({**run.config, "engine": simulation})
    assert isinstance(config, DictConfig)
    return engine.decide_again(parse_config(config, ReplayConfig), run).rounds


def main() -> None:
    """Compare and print; write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="folders of runs, or ones that hold runs")
    parser.add_argument("--table", type=Path, required=True, help="acceptance table of these runs")
    parser.add_argument("--profile", default="profiles/epyc-zen4-2-cores-smollm2-bfloat16", help="any of these models")
    parser.add_argument("--out", type=Path, help="Markdown page")
    options = parser.parse_args()
    engine, rows = SimulatedEngine(), []
    for folder in find_runs(options.folders):
        run = read_run(folder)
        found = decide_again(engine, run, options)
        rows.append(
            {
                "method": run.meta["method"],
                "verification": run.meta["verification"],
                "batch": run.meta["max_num_seqs"],
                "K": run.meta["num_speculative_tokens"],
                "requests": len(run.requests),
                "(round, request) pairs": found.num_parts,
                "equal": found.num_equal,
                "first difference": found.first_difference or "none",
            }
        )
    page = str(pd.DataFrame(rows).to_markdown(index=False))
    print(page)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(f"# {(__doc__ or '').splitlines()[0]}\n\n{page}\n", encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
