"""What a choice by `joint` or `contextual` costs the host, by batch size and number of drafters.

python -m benchmarks.selector_overhead --out reports/joint/overhead.csv

Rounds with random contexts and outcomes, priced by the shipped profile, whose model drafters stand in several times
where more drafters are asked for. The share is of a plain round by that profile: of a round without any draft.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.entry import run_main
from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.profile.profile_file import read_profile
from spinbench.cli.locations import find_trace
from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.control.drafting.drafter_groups import DrafterGroups
from spinbench.control.request_table import NO_DRAFTER
from spinbench.control.selector.contextual import ContextualSelector
from spinbench.control.selector.joint import JointSelector
from spinbench.control.selector.protocol import SelectorSetting
from spinbench.workload.acceptance.agreement import MAX_AGREED

PROFILE = "profiles/epyc-zen4-2-cores-smollm2-bfloat16"
SHAPES = ((1, 6), (8, 6), (8, 10), (32, 10))
"""(requests in a round, drafters)"""
NUM_SPECULATIVE_TOKENS = 8
NUM_REQUESTS = 2000
KEYS = {"optimism": 1.5, "payback_rounds": 16, "memory_rounds": 1000, "learn_costs": False}


def drafters_and_costs(count: int) -> tuple[tuple[DrafterInfo, ...], CostModel]:
    """Prompt lookup and `count` - 1 models."""
    profile = read_profile(find_trace(PROFILE))
    names = [drafter.name for drafter in profile.meta.drafters if drafter.kind != "lookup_then_model"]
    costs = fit_cost_model(profile, names)
    models = [cost for cost in costs.drafters if cost.model is not None]
    lookup = next(cost for cost in costs.drafters if cost.name == "prompt_lookup")
    chosen = [replace(models[i % len(models)], name=f"model-{i}") for i in range(count - 1)]
    infos = tuple(DrafterInfo(cost.name, "model") for cost in chosen)
    return (*infos, DrafterInfo("prompt_lookup", "prompt_lookup")), replace(costs, drafters=(*chosen, lookup))


def context_of(rng: np.random.Generator, count: int, num_drafters: int) -> RoundContext:
    """Requests in the midst of their answers."""
    missing = np.where(rng.random((count, num_drafters)) < 0.5, 2, rng.integers(3, 300, (count, num_drafters)))
    missing[:, -1] = 0
    nothing = np.zeros(count, np.int64)
    rows, category = rng.choice(NUM_REQUESTS, count, replace=False), rng.integers(0, 8, count)
    context_tokens = rng.integers(50, 800, count)
    return RoundContext(
        rows=rows, category=category, num_rounds=nothing + 9, context_tokens=context_tokens,
        held_kv_tokens=context_tokens[:, None] - missing, output_tokens=nothing + 30,
        remaining_tokens=nothing + 60, lookup_match_order=rng.integers(0, 4, count),
        lookup_agreed=rng.integers(0, MAX_AGREED + 1, count), ngram_agreed=rng.integers(0, MAX_AGREED + 1, count),
        ngram_confidence=rng.random(count),
        newest_token_ids=rng.integers(0, 40_000, count), last_drafter=nothing, last_drafted=nothing,
        last_accepted=nothing, last_confidence=np.full(count, np.nan), num_waiting=0,
    )  # fmt: skip


def outcome_of(rng: np.random.Generator, seen: RoundContext, drafter: np.ndarray, drafted: np.ndarray) -> RoundOutcome:
    """Drafts of which 40 % of the tokens are right, copies 70 %."""
    by_lookup = drafter == seen.held_kv_tokens.shape[1] - 1
    accepted = np.minimum(rng.geometric(np.where(by_lookup, 0.3, 0.6)) - 1, drafted)
    width = int(accepted.max()) + 1
    copied = np.where(seen.lookup_match_order > 0, rng.geometric(0.3, len(seen)) - 1, 0)
    copies = np.repeat((np.arange(width) < copied[:, None])[..., None], 3, 2)
    return RoundOutcome(
        rows=seen.rows, drafter=drafter, by_lookup=by_lookup, drafted=drafted, drafted_nodes=drafted,
        drafted_ahead=np.zeros(len(seen), np.bool_), draft_steps=np.where(by_lookup, 0, drafted), accepted=accepted,
        lookup_hindsight=lambda: (np.repeat(seen.lookup_match_order[:, None], width, 1), copies),
        ngram_hindsight=lambda: (np.zeros((len(seen), width)), np.zeros((len(seen), width), np.bool_)),
        draft_time_s=0.01 * drafted, verify_time_s=0.05, group_size=lambda: np.ones(len(seen), np.int64),
        finished=np.zeros(len(seen), np.bool_),
        groups=lambda: DrafterGroups(seen.held_kv_tokens.shape[1]).of(drafter),
    )  # fmt: skip


def measure(selector_class: type[JointSelector | ContextualSelector], count: int, num_drafters: int, rounds: int):
    """Milliseconds to choose, and to learn, of each round after the first tenth."""
    infos, costs = drafters_and_costs(num_drafters)
    rng = np.random.default_rng(0)
    setting = SelectorSetting(infos, count, NUM_REQUESTS, rng, NUM_SPECULATIVE_TOKENS, costs, chooses_draft_length=True)
    selector = selector_class(setting, **KEYS, **({"branch": True} if selector_class is JointSelector else {}))
    times_ms = []
    for _ in range(rounds):
        seen = context_of(rng, count, num_drafters)
        begun_s = time.perf_counter()
        drafter = selector.choose(seen)
        lengths = selector.lengths(seen, drafter)
        chosen_s = time.perf_counter()
        done = outcome_of(rng, seen, np.where(lengths > 0, drafter, NO_DRAFTER), lengths)
        learning_s = time.perf_counter()
        selector.observe(done)
        times_ms.append((1e3 * (chosen_s - begun_s), 1e3 * (time.perf_counter() - learning_s)))
    round_ms = 1e3 * costs.verify_s(count, 0, 400.0)
    return np.array(times_ms)[rounds // 10 :], round_ms


def main() -> None:
    """Measure and print; write the CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for selector_class in (JointSelector, ContextualSelector):
        for count, num_drafters in SHAPES:
            times_ms, round_ms = measure(selector_class, count, num_drafters, options.rounds)
            choose_ms, learn_ms = np.median(times_ms, axis=0)
            rows.append(
                {
                    "selector": selector_class.__name__,
                    "requests": count,
                    "drafters": num_drafters,
                    "choose_p50_ms": choose_ms,
                    "choose_p99_ms": np.percentile(times_ms[:, 0], 99),
                    "learn_p50_ms": learn_ms,
                    "plain_round_ms": round_ms,
                    "share_of_plain_round_percent": 100 * (choose_ms + learn_ms) / round_ms,
                }
            )
    table = pd.DataFrame(rows).round(3)
    print(table.to_markdown(index=False))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out, index=False)


if __name__ == "__main__":
    run_main(main)
