"""Figures of a claim from the table of runs."""

import json

import pandas as pd

from benchmarks.spin_claims.sweeps import OF_BASELINE, OPEN, STEPS, open_folder

NAMES = {"alpaca": "Alpaca-like", "cp": "CP-like", "mix": "mix"}
PAPER_STEPS = {"homogeneous": 1.0, "selection": 1.45, "decomposition": 1.81, "pipeline": 1.99}
"""On CP, LLaMA-7B."""


def of(table: pd.DataFrame, sweep: str, **values: object) -> pd.DataFrame:
    """The runs of a sweep's folder with these values."""
    rows = table[table["sweep"] == sweep]
    for name, value in values.items():
        rows = rows[rows[name].astype(str) == str(value)]
    if rows.empty:
        raise SystemExit(f"{sweep}: no run with {values}")
    return rows


def best_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Per workload, measure and drafter the share of requests (%) for which it is the best, padded verification."""
    rows = []
    for workload in NAMES:
        runs = of(table, "motivation", workload=workload, layout="padded")
        order = runs.sort_values("drafter", key=lambda names: names.map(_size))
        for measure in ("draft_goodput", "speed"):
            speeds = pd.DataFrame([json.loads(text)[measure] for text in order["request_speed"]], order["drafter"])
            shares = speeds.idxmax().value_counts(normalize=True).reindex(order["drafter"], fill_value=0.0)
            rows += [
                {
                    "workload": workload,
                    "measure": measure,
                    "drafter": str(name).removeprefix("llama-"),
                    "share": 100 * share,
                }
                for name, share in shares.items()
            ]
    return pd.DataFrame(rows)


def _size(name: str) -> float:
    number = name.removeprefix("llama-")
    return float(number[:-1]) * (1000 if number[-1] == "b" else 1)


def depth_ratios(table: pd.DataFrame, sweep: str, workload: str) -> pd.Series:
    """Throughput by depth over that of depth 1."""
    speeds = of(table, sweep, workload=workload).set_index("depth")["tokens_per_s"]
    speeds.index = speeds.index.astype(str)
    return speeds / speeds["1"]


def step_ratios(table: pd.DataFrame, sweep: str = "ablation", column: str = "tokens_per_s") -> pd.DataFrame:
    """Per step, workload and seed the throughput over homogeneous speculative decoding's of the same seed."""
    steps = []
    for step in STEPS:
        folder = f"{sweep if step != 'homogeneous' else 'ablation'}/{step}"
        steps.append(of(table, folder).assign(step=step))
    runs = pd.concat(steps)
    runs["per_gpu"] = runs["tokens_per_s"] / runs["gpus"]
    base = runs[runs["step"] == "homogeneous"].set_index(["workload", "seed"])[column]
    keys = pd.MultiIndex.from_frame(runs[["workload", "seed"]])
    return runs.assign(ratio=runs[column].to_numpy() / base.loc[keys].to_numpy()).replace({"workload": NAMES})


def homogeneous(table: pd.DataFrame, workload: str, sweep: str = "ablation", column: str = "tokens_per_s") -> pd.Series:
    """Mean ratio of each step on a workload."""
    ratios = step_ratios(table, sweep, column)
    return ratios[ratios["workload"] == NAMES[workload]].groupby("step", sort=False)["ratio"].mean()


def open_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """All of SPIN over homogeneous speculative decoding, mean over seeds, by open parameter; widest range first."""
    base = of(table, "ablation/homogeneous", workload="mix").set_index("seed")["tokens_per_s"]
    rows = []
    for name, values in OPEN.items():
        for value in values:
            folder = open_folder(name, value)
            own = of(table, f"{folder}/baseline").set_index("seed")["tokens_per_s"] if name in OF_BASELINE else base
            ours = of(table, folder).set_index("seed")["tokens_per_s"]
            shown = ", ".join(_value(part) for part in value if not part.startswith("~"))
            rows.append({"parameter": name, "value": shown, "ratio": (ours / own).mean(), "tokens_per_s": ours.mean()})
    ratios = pd.DataFrame(rows)
    full = float(homogeneous(table, "mix").loc["pipeline"])
    reach = (ratios["ratio"] - full).abs().groupby(ratios["parameter"]).transform("max")
    return ratios.assign(reach=reach).sort_values("reach", ascending=False, kind="stable").drop(columns="reach")


def _value(override: str) -> str:
    key, _, value = override.partition("=")
    if key == "engine.profile":
        return "datasheet, " + ("half precision" if value.endswith("bfloat16") else "float32")
    if key == "selector.capacity":
        return {"null": "no limit"}.get(value, value)
    if key == "selector.per_request":
        return "none, one for all"
    return {"null": "searched", "spin_round_goodput": "round goodput"}.get(value, value)
