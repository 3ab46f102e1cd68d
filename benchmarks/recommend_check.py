"""What `spinbench recommend` chose, held against an exhaustive search on real models over the very same set-ups.

    D='models.drafters=[smollm2-d128-general,smollm2-d576-slim-general,smollm2-ngram,prompt_lookup,smollm2-d576-slim-general+prompt_lookup,smollm2-ngram+prompt_lookup]'
    spinbench profile $D engine.dtype=float32 max_context_tokens=512 layouts=[packed] hydra.run.dir=profiles/here
    spinbench record $D engine.dtype=float32 trace.num_prompts=16 trace.sample_seed=526 trace.max_output_tokens=40 \\
        out=records/here
    python -m benchmarks.recommend_check --profile profiles/here --table records/here

First `spinbench recommend` chooses among SET_UPS in simulation (confirm=never), for a part of traces/mixed.jsonl, all
requests at once. Then every one of them runs on real models, in turns, and the choice is compared with the best that
was measured. `--question` changes the traffic: any overrides of `spinbench recommend`, which the table must be of. Both
searches are kept in --runs, and the same command goes on where it was ended.
"""

import argparse
import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.entry import run_main
from spinbench.cli.hydra_app.override_text import with_overrides
from spinbench.cli.main import main as spinbench
from spinbench.cli.replay.command import Replay
from spinbench.cli.sweep.paired_runs import run_in_turns
from spinbench.report.comparison.paired import PairedRatio, paired_ratios

DRAFTERS = (
    "smollm2-d128-general", "smollm2-d576-slim-general", "smollm2-ngram", "prompt_lookup",
    "smollm2-d576-slim-general+prompt_lookup", "smollm2-ngram+prompt_lookup",
)  # fmt: skip
SET_UPS = (
    "selector=plain",
    f"selector=fixed selector.drafter={','.join(DRAFTERS)} drafting=fixed drafting.num_speculative_tokens=1,2,4",
    f"selector=fixed selector.drafter={','.join(DRAFTERS[2:])} drafting=by_match_order "
    "drafting.num_speculative_tokens=[2,2,3,8] drafting.min_ngram_confidence=0.6",
    f"selector=fixed selector.drafter={','.join(DRAFTERS[4:])} drafting=goodput,adaptive",
    "selector=joint drafting=by_selector",
    "selector=spin_round_goodput drafting=fixed drafting.num_speculative_tokens=2",
)
"""29 in all."""
MIN_SET_UPS = 24
WITHIN = 0.05
"""How far the choice may be behind the best that was measured."""
TRAFFIC = "trace.num_prompts={num_prompts} trace.sample_seed=526 trace.max_output_tokens={max_output_tokens}"


def main() -> None:
    """Search twice, compare, write NAME.csv and NAME.md."""
    options = _parser().parse_args()
    traffic = shlex.split(options.question or TRAFFIC.format(**vars(options)))
    folder = options.runs / options.name
    chosen = _recommendation(options, traffic, folder / "recommend")
    candidates = pd.read_csv(folder / "recommend" / "candidates.csv", keep_default_na=False, na_values=[""])
    if len(candidates) < MIN_SET_UPS:
        sys.exit(f"{len(candidates)} set-ups; at least {MIN_SET_UPS} are wanted")
    own = {
        str(name): shlex.split(words) for name, words in zip(candidates["set_up"], candidates["overrides"], strict=True)
    }
    runs = run_in_turns(
        folder / "real", {name: with_overrides(_real(options, traffic), words) for name, words in own.items()},
        options.repeats, shlex.join(sys.argv), Replay(),
    )  # fmt: skip
    table = _table(candidates, runs, chosen)
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / f"{options.name}.csv", index=False, float_format="%.5g")
    page = options.out / f"{options.name}.md"
    page.write_text(_page(options, traffic, table, runs, chosen), encoding="utf-8")
    print(page.read_text(encoding="utf-8"))


def _recommendation(options: argparse.Namespace, traffic: list[str], folder: Path) -> dict[str, Any]:
    quoted = ",".join("'" + one.replace("'", "\\'") + "'" for one in SET_UPS)
    words = [
        *traffic, f"models.drafters=[{','.join(DRAFTERS)}]", f"scheduler.max_num_seqs={options.batch}",
        f"simulation.profile={options.profile}", f"simulation.source={options.table}", f"runtime.dtype={options.dtype}",
        f"search.set_ups=[{quoted}]", f"halving.finalists={3 * MIN_SET_UPS}", "what_if.max_num_seqs=[]",
        "what_if.loads=[]", "what_if.categories=false", "confirm=never",
        f"validations=[{','.join(options.validation)}]", f"hydra.run.dir={folder}",
        f"launcher.workers={options.workers}",
    ]  # fmt: skip
    if spinbench(["recommend", *words]) != 0:
        sys.exit("spinbench recommend failed")
    return json.loads((folder / "answer.json").read_text(encoding="utf-8"))


def _real(options: argparse.Namespace, traffic: list[str]) -> list[str]:
    arrivals = [] if any(word.startswith("arrivals=") for word in traffic) else ["arrivals=all_at_once"]
    return [
        *traffic, *arrivals, f"models.drafters=[{','.join(DRAFTERS)}]", f"scheduler.max_num_seqs={options.batch}",
        f"engine.dtype={options.dtype}", f"engine.profile={options.profile}",
        *([] if options.threads is None else [f"engine.num_threads={options.threads}"]),
    ]  # fmt: skip


def _table(candidates: pd.DataFrame, runs: pd.DataFrame, chosen: dict[str, Any]) -> pd.DataFrame:
    """A row per set-up, the fastest as measured first."""
    metric = str(chosen["objective"])
    columns = ["set_up", "role", metric, "over_plain", "over_plain_low", "over_plain_high"]
    table = candidates[columns].rename(columns={metric: "simulated"})
    medians = runs.assign(value=runs[metric].astype(float)).groupby("method")["value"]
    table["measured"] = table["set_up"].map(medians.median())
    table["measured_min"], table["measured_max"] = (table["set_up"].map(of) for of in (medians.min(), medians.max()))
    table = table.sort_values("measured", ascending=False, kind="stable").reset_index(drop=True)
    best = str(table["set_up"].iloc[0])
    for name, base in (("measured_over_plain", str(chosen["plain"])), ("measured_over_best", best)):
        ratio = {one.method: one.median for one in paired_ratios(runs, base, metric)}
        table[name] = table["set_up"].map(ratio)
    table["gain_within_bounds"] = (table["over_plain_low"] <= table["measured_over_plain"]) & (
        table["measured_over_plain"] <= table["over_plain_high"]
    )
    table["chosen"] = table["set_up"] == chosen["chosen"]
    return table


def _page(
    options: argparse.Namespace, traffic: list[str], table: pd.DataFrame, runs: pd.DataFrame, chosen: dict[str, Any]
) -> str:
    metric, name, best = str(chosen["objective"]), str(chosen["chosen"]), table.iloc[0]
    ours = table[table["chosen"]].iloc[0]
    over_best = _ratio(runs, name, str(best["set_up"]), metric)
    verdict = "within" if over_best.median >= 1 - WITHIN else "**not** within"
    rank = int(ours.name) + 1 if isinstance(ours.name, int) else 0
    others = table[table["set_up"] != chosen["plain"]]
    correlation = table["simulated"].corr(table["measured"], method="spearman")
    lines = [
        f"# Recommended against exhaustively searched: {options.name}",
        "",
        f"`{name}` was chosen in simulation among {len(table)} set-ups. On real models it is number {rank}, at "
        f"{over_best.median:.3f} ({over_best.low:.3f}..{over_best.high:.3f} over {over_best.repeats} repeats) of the "
        f"best, `{best['set_up']}`: {verdict} {WITHIN:.0%} of it.",
        "",
        "| gain of the choice over | predicted (bounds) | measured (smallest..largest) | within |",
        "|:--|--:|--:|:--|",
    ]
    for called, key in (("plain decoding", "plain"), ("the best single drafter with a fixed K", "single")):
        measured, predicted = _ratio(runs, name, str(chosen[key]), metric), chosen[f"over_{key}"]
        high = math.inf if predicted["high"] is None else predicted["high"]  # JSON has no infinity
        inside = predicted["low"] <= measured.median <= high
        lines.append(
            f"| {called} (`{chosen[key]}`) | {predicted['ratio']:.3f}x ({predicted['low']:.3f}x to "
            f"{high:.3f}x) | {measured.median:.3f}x ({measured.low:.3f}..{measured.high:.3f}) | "
            f"{'yes' if inside else 'NO'} |"
        )
    columns = [
        "set_up", "measured", "measured_min", "measured_max", "simulated", "measured_over_plain", "over_plain",
        "over_plain_low", "over_plain_high", "gain_within_bounds", "chosen",
    ]  # fmt: skip
    words = {"gain_within_bounds": {True: "yes", False: "NO"}, "chosen": {True: "chosen", False: ""}}
    shown = table[columns].assign(**{key: table[key].map(text) for key, text in words.items()})
    lines += [
        "",
        f"Of {len(others)} set-ups the measured gain over plain decoding lies in the predicted bounds for "
        f"{int(others['gain_within_bounds'].sum())}. Rank correlation of simulated and measured {metric}: "
        f"{correlation:.2f}. The bounds' source: {chosen['error_source']}.",
        *(f"\nMind: {warning}." for warning in chosen["warnings"]),
        "",
        str(shown.to_markdown(index=False, floatfmt=".4g")),
        "",
        f"{metric} in `simulated` and `measured` (median of {options.repeats}); {chosen['target']} in {options.dtype}, "
        f"batch {options.batch}, on {chosen['device']}; traffic `{' '.join(traffic)}`. Made by",
        "",
        "```sh",
        shlex.join(["python", "-m", "benchmarks.recommend_check", *sys.argv[1:]]),
        "```",
        "",
    ]
    return "\n".join(lines)


def _ratio(runs: pd.DataFrame, name: str, base: str, metric: str) -> PairedRatio:
    return next(one for one in paired_ratios(runs, base, metric) if one.method == name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", required=True, help="folder of `spinbench profile`, of this machine and dtype")
    parser.add_argument("--table", required=True, help="folder of `spinbench record`, of this traffic and dtype")
    parser.add_argument("--validation", action="append", default=[], help="folder of `spinbench validate`; repeatable")
    parser.add_argument("--name", default="mixed", help="of the result's files")
    parser.add_argument("--question", help="overrides that make the traffic, in the place of the part of mixed.jsonl")
    parser.add_argument("--num-prompts", type=int, default=16)
    parser.add_argument("--max-output-tokens", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: torch's choice)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the simulated search")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/recommend_check"))
    parser.add_argument("--out", type=Path, default=Path("reports/recommend"))
    return parser


if __name__ == "__main__":
    run_main(main)
