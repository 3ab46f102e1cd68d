"""The `joint` selector beside every fixed drafter and draft length, selectors and policies, in simulation.

python -m benchmarks.joint --out reports/joint/joint.csv

The whole mixed trace and each of its categories, all requests at once. A run takes seconds; a CSV that is there is gone
on with.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from benchmarks.entry import run_main
from benchmarks.simulations import Simulations
from spinbench.cli.config.replay import ReplayConfig
from spinbench.control.arrays import FloatArray
from spinbench.control.records.run_record import RunRecord
from spinbench.control.regret import decode_time_s
from spinbench.workload.acceptance.drafter_name import LOOKUP_SUFFIX

MIX = "mix"
PLAIN = ("selector=plain",)
FIXED_LENGTHS = range(1, 7)
ORACLE_TOKENS = 8
"""Largest K of the oracle: that of drafting=by_selector."""


@dataclass(frozen=True)
class Method:
    """A name, and the overrides that make it."""

    name: str
    overrides: tuple[str, ...]
    with_oracle: bool = False


def tokens_per_s(record: RunRecord) -> float:
    return sum(request.output_tokens for request in record.requests) / (record.end_s - record.start_s)


def fixed_methods(drafters: list[str]) -> list[Method]:
    """Every drafter with every K."""
    return [
        Method(
            f"fixed {drafter} K={k}",
            ("selector=fixed", f"selector.drafter={drafter}", f"drafting.num_speculative_tokens={k}"),
        )
        for drafter in drafters
        for k in FIXED_LENGTHS
    ]


def other_methods(drafters: list[str]) -> list[Method]:
    """Selectors and policies."""
    by_selector = "drafting=by_selector"
    methods = [
        Method("spin", ("selector=spin",)),
        Method("spin round goodput", ("selector=spin_round_goodput",)),
        Method("contextual, K by selector", ("selector=contextual", by_selector), True),
        Method("joint", ("selector=joint", by_selector), True),
        Method("joint, costs learned", ("selector=joint", by_selector, "selector.learn_costs=true"), True),
    ]
    for name, models_too in (("copies", "false"), ("all drafts", "true")):
        overrides = ("selector=joint", by_selector, "selector._target_=benchmarks.foreseeing.ForesightJoint")
        methods.append(Method(f"joint, {name} foreseen", (*overrides, f"+selector.models_too={models_too}")))
    for drafter in drafters[-2:]:
        given = ("selector=fixed", f"selector.drafter={drafter}")
        lengths = ("drafting=by_match_order", "drafting.num_speculative_tokens=[0,0,3,8]")
        methods.append(Method(f"fixed {drafter} by_match_order [0,0,3,8]", (*given, *lengths)))
        methods += [
            Method(f"fixed {drafter} {policy}", (*given, f"drafting={policy}"))
            for policy in ("goodput", "adaptive", "budget")
        ]
    sure = ("drafting.num_speculative_tokens=[2,2,3,8]", "drafting.min_ngram_confidence=0.6")
    given = ("selector=fixed", f"selector.drafter={drafters[-1]}", "drafting=by_match_order")
    methods.append(Method(f"fixed {drafters[-1]} by_match_order [2,2,3,8], sure", (*given, *sure)))
    return methods


def measure(simulations: Simulations, out: Path, batch_sizes: list[int]) -> pd.DataFrame:
    """Run what is not in the CSV yet; it is written after every run."""
    rows = pd.read_csv(out).to_dict("records") if out.is_file() else []
    done = {(row["requests"], row["max_num_seqs"], row["method"]) for row in rows}
    base = simulations.config(*PLAIN)
    drafters = list(base.models.drafters)
    out.parent.mkdir(parents=True, exist_ok=True)

    def add(requests: str, batch: int, method: str, record: RunRecord, share: float | None) -> None:
        rows.append(
            {
                "requests": requests,
                "max_num_seqs": batch,
                "method": method,
                "output_throughput": round(tokens_per_s(record), 3),
                "acceptance_length": round(float(record.rounds.accepted.mean()) + 1, 4),
                "share_of_oracle": None if share is None else round(share, 4),
            }
        )
        pd.DataFrame(rows).to_csv(out, index=False)

    for batch in batch_sizes:
        times: dict[tuple[str, ...], FloatArray] = {}
        plan = [
            (MIX, method)
            for method in [Method("plain", PLAIN, True), *fixed_methods(drafters), *other_methods(drafters)]
        ]
        categories = sorted(_categories(simulations, base))
        single = [Method("plain", PLAIN), *fixed_methods(drafters), *other_methods(drafters)[3:4]]
        plan += [(category, method) for category in categories for method in single]
        for requests, method in track(plan, description=f"batch {batch}"):
            if (requests, batch, method.name) in done:
                continue
            overrides = [*method.overrides, f"scheduler.max_num_seqs={batch}"]
            overrides += [f"trace.categories=[{requests}]"] if requests != MIX else []
            if method.with_oracle and requests == MIX:
                overrides.append(f"engine.oracle_num_speculative_tokens={ORACLE_TOKENS}")
            record, share = simulations.run(simulations.config(*overrides))
            if requests == MIX:
                times[method.overrides] = decode_time_s(record)
            add(requests, batch, method.name, record, share)
        name = "best fixed drafter and K of each request"
        if (MIX, batch, name) not in done:
            add(MIX, batch, name, *_best_per_request(simulations, drafters, batch, times))
    return pd.DataFrame(rows)


def _categories(simulations: Simulations, config: ReplayConfig) -> set[str]:
    record, _ = simulations.run(config)
    return {request.category for request in record.requests if request.category is not None}


def _best_per_request(
    simulations: Simulations, drafters: list[str], batch: int, known: Mapping[tuple[str, ...], FloatArray]
) -> tuple[RunRecord, float | None]:
    """Each request with the setting under which its share of the rounds' time was least, all in one run.

    `known`: decoding times by overrides, of runs that need not be made again.
    """
    limit = f"scheduler.max_num_seqs={batch}"
    fixed = [method.overrides for method in fixed_methods(drafters)]
    settings = [(-1, 0, PLAIN), *((drafters.index(_value(one[1])), int(_value(one[2])), one) for one in fixed)]
    times = [
        known[given] if given in known else decode_time_s(simulations.run(simulations.config(*given, limit))[0])
        for *_, given in settings
    ]
    best = np.array(times).argmin(0).tolist()
    own = {
        "_target_": "benchmarks.foreseeing.OwnChoices",
        "drafter": [settings[place][0] for place in best],
        "num_speculative_tokens": [settings[place][1] for place in best],
    }
    config = simulations.config(*PLAIN, "drafting=by_selector", limit)
    return simulations.run(config.model_copy(update={"selector": own}))


def _value(override: str) -> str:
    return override.partition("=")[2]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """The bars: joint against the best of what it is compared with, by batch size."""
    lines: list[tuple[object, str, float]] = []
    for batch, runs in table.groupby("max_num_seqs"):
        speed = runs.set_index(["requests", "method"])["output_throughput"]
        mix = speed[MIX]
        fixed = mix[[name.startswith("fixed ") and " K=" in name for name in mix.index]]
        lines.append((batch, f"best fixed: {fixed.idxmax()}", mix["joint"] / fixed.max()))
        # a drafter behind a lookup already looks at the text before it drafts, round by round
        single = fixed[[LOOKUP_SUFFIX not in name for name in fixed.index]]
        lines.append((batch, f"best fixed, of single drafters: {single.idxmax()}", mix["joint"] / single.max()))
        others = mix.index[~mix.index.isin(fixed.index)].drop("joint")
        lines += [(batch, name, mix["joint"] / mix[name]) for name in others]
        complete = runs[runs["method"] == "joint"]["requests"]  # the last one to be run
        for category in complete[complete != MIX]:
            best = speed[category].drop("joint")
            lines.append((batch, f"{category} alone: {best.idxmax()}", speed[category]["joint"] / best.max()))
    return pd.DataFrame(lines, columns=["batch", "joint over", "ratio"]).round(3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV of every run; gone on with if it is there")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    table = measure(Simulations(), options.out, options.batch_sizes)
    print(table[table["requests"] == MIX].to_markdown(index=False))
    print(summary(table).to_markdown(index=False))


if __name__ == "__main__":
    run_main(main)
