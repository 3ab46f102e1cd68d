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
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.entry import run_main
from benchmarks.joint import Simulations
from spinbench.metrics.definitions import summarise
from spinbench.metrics.metric import MetricValue
from spinbench.metrics.store import read_run
from spinbench.metrics.switching import switch_stalls_ms
from spinbench.metrics.tables import RunTables, tables_from_record

SWITCHING = ("on_demand", "ahead")
PROFILE = ["device=v100_32gb", "models=llama_7b", "max_context_tokens=4096"]
DTYPES = ("float32", "bfloat16")
OWN = ["placement=own_devices"]
PAGE = """# Switching drafters without stalls

`switching=ahead` (SPIN, arXiv 2503.15921) has the next drafter of a request catch up while the present one drafts and
the target verifies; `on_demand`, as the request comes to it. With the same choices in both (`round_robin`, a new
drafter every 4 rounds):

{headline}

A stall is the time that the new drafter's catch-ups took between a request's verification and its draft; tokens that go
into a draft's first step (at most 16) are no part of it. What the figures mean:

- On one device (`shared`) the work is moved, not saved: the stall is gone from where it is counted, and is paid in
  front of the verification of the round before. Catch-up jobs take a little more time in all, since some prepare what
  on demand a draft's first step would have taken in. So there `ahead` gains nothing.
- With drafters on devices of their own and one round in flight, what overlaps is gained.
- With several micro-batches in flight other requests fill part of the gap anyway, so hiding it gains less.
- Where the repeats' ranges overlap, as on two real cores, throughput shows no gain that could be told from noise; there
  a lane for drafters takes a core from the target as well, and costs more than it hides.
- Throughput cannot gain more than the share of the time that catch-up jobs took; a selector that seldom changes its
  mind has little to gain.
- A selector that learns decides a round earlier with `ahead`, on less evidence: its choices, and so its acceptance
  length, are not the same. `joint` announces nothing: the model that a request was last drafted by is kept ready, which
  is a guess; a change to a model that the request never had is not foreseen.

```sh
python -m benchmarks.switching --out reports/switching
```

{parts}"""
DEPTH_2 = ["pipeline=micro_batches", "pipeline.depth=2"]


@dataclass(frozen=True)
class SetUp:
    """Points that are compared with each other."""

    key: str
    title: str
    overrides: tuple[str, ...]
    selectors: tuple[tuple[str, ...], ...]
    lanes: tuple[tuple[str, ...], ...]
    """Pipeline and placement."""
    repeats: int
    is_real: bool = False


def set_ups(profiles: Path) -> tuple[SetUp, ...]:
    """Three that are simulated and one that is real; analytic profiles lie in `profiles` by their number format."""
    llama = (
        "models=llama_7b", "engine.acceptance=synthetic",
        "engine.source=llama_drafters.yaml", "drafting.num_speculative_tokens=8",
        "scheduler.max_num_seqs=8",
    )  # fmt: skip
    turns = "selector=round_robin", "selector.rounds_per_choice=4"
    spin_2 = ("selector=spin", "selector.capacity=2")
    lanes = (tuple(OWN), (*OWN, *DEPTH_2))
    one_device = ("placement=shared",)
    return (
        SetUp(
            "smollm2",
            "Simulated: SmolLM2, shipped table and profile (two cores of an AMD EPYC), mixed trace, batch 8, K = 4",
            ("scheduler.max_num_seqs=8",),
            (turns, ("selector=spin",), ("selector=epsilon_greedy",), ("selector=joint", "drafting=by_selector")),
            (one_device, *lanes),
            3,
        ),
        SetUp(
            "llama_short",
            "Simulated: LLaMA-7B, analytic V100 profile (float32), acceptance made up, short prompts, batch 8, K = 8",
            (*llama, f"engine.profile={profiles / 'float32'}", "trace=synthetic", "trace.path=short_prompts.yaml"),
            (turns, spin_2, ("selector=epsilon_greedy",)),
            lanes,
            3,
        ),
        SetUp(
            "llama_chat",
            "Simulated: the same in bfloat16 with prompts of up to 2,048 tokens (`synthetic_chat.yaml`, 128 requests)",
            (*llama, f"engine.profile={profiles / 'bfloat16'}", "trace=synthetic",
             "trace.max_prompt_tokens=2048", "trace.max_output_tokens=256",
             "trace.num_prompts=128"),
            (turns, spin_2, ("selector=epsilon_greedy",)),
            lanes,
            3,
        ),
        SetUp(
            "real",
            "Real: SmolLM2 in bfloat16, two CPU cores, 16 requests of the mixed trace, 64 tokens, batch 4, K = 4",
            ("arrivals=all_at_once", "scheduler.max_num_seqs=4", "trace.num_prompts=16", "trace.sample_seed=526",
             "trace.max_output_tokens=64"),
            (turns,),
            (one_device, ("placement=drafters_together",)),
            3,
            is_real=True,
        ),
    )  # fmt: skip


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


def page_table(table: pd.DataFrame) -> pd.DataFrame:
    """Columns as they are read."""
    pairs = table.groupby(["selector", "lanes"], sort=False)["tokens_per_s"]
    return pd.DataFrame(
        {
            "selector": table["selector"],
            "lanes": table["lanes"],
            "switching": table["switching"],
            "tokens/s (min..max)": [
                f"{row.tokens_per_s:.1f} ({row.tokens_per_s_min:.1f}..{row.tokens_per_s_max:.1f})"
                for row in table.itertuples()
            ],
            "over on demand": (table["tokens_per_s"] / pairs.transform("first")).map("{:.3f}x".format),
            "switches a run": table["switches"].map("{:.0f}".format),
            "of them stalled": table["stalled_share"].map("{:.0%}".format),
            "mean stall (ms)": table["mean_stall_ms"].map("{:.2f}".format),
            "p99 stall (ms)": table["p99_stall_ms"].map("{:.1f}".format),
            "catch-up jobs (s of s)": [f"{row.catch_up_s:.2f} of {row.duration_s:.1f}" for row in table.itertuples()],
            "acceptance length": table["acceptance_length"].map("{:.2f}".format),
        }
    )


def headline(tables: dict[str, pd.DataFrame]) -> str:
    """What `round_robin`, which decides the same with and without, says of each set-up."""
    lines = []
    for key, table in tables.items():
        for lanes, pair in table[table["selector"] == "round_robin"].groupby("lanes", sort=False):
            before, after = (pair[pair["switching"] == switching].iloc[0] for switching in SWITCHING)
            lines.append(
                f"- {key}, {lanes}: mean stall {before['mean_stall_ms']:.2f} -> {after['mean_stall_ms']:.2f} ms, p99 "
                f"{before['p99_stall_ms']:.1f} -> {after['p99_stall_ms']:.1f} ms, throughput "
                f"{after['tokens_per_s'] / before['tokens_per_s']:.3f}x"
            )
    return "\n".join(lines)


def write_page(out: Path, all_set_ups: Sequence[SetUp]) -> None:
    """README.md from the CSVs in the folder."""
    known = [(one, out / f"{one.key}.csv") for one in all_set_ups]
    tables = {one.key: pd.read_csv(path) for one, path in known if path.exists()}
    parts = []
    for one in all_set_ups:
        if one.key in tables:
            text = page_table(tables[one.key]).to_markdown(index=False, disable_numparse=True)
            parts.append(f"## {one.title}\n\n`{one.key}`, medians over {one.repeats} repeats.\n\n{text}\n")
    page = PAGE.format(headline=headline(tables), parts="\n".join(parts))
    (out / "README.md").write_text(page, encoding="utf-8")


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
