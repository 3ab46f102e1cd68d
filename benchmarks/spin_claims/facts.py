"""The numbers that the text of the report quotes, each under a name."""

import pandas as pd

from benchmarks.spin_claims.numbers import NAMES, best_shares, depth_ratios, homogeneous, of, open_ratios, step_ratios
from benchmarks.spin_claims.sweeps import DATASHEETS
from spinbench.models.model_shape import SHAPES

HALF_BYTES, FULL_BYTES = 2, 4
PIPELINE_BAR = 1.15
DEEP = ("alpaca", "cp")
"""Requests that were served at every pipeline depth."""
PIPELINES = {"pipeline": "", "pipeline_round_goodput": "_own", "datasheet_float32/pipeline": "_float32"}


def collect(table: pd.DataFrame) -> dict[str, str]:
    """What the text quotes, by name."""
    facts = _step_facts(table)
    for workload in NAMES:
        facts |= _selection_facts(table, workload) | _layout_facts(table, workload)
        best = of(table, "best_fixed", workload=workload)
        facts[f"best_fixed_all_{workload}"] = f"{best['tokens_per_s'].mean():.1f}"
        for sweep, suffix in PIPELINES.items():
            if workload in DEEP:
                facts |= _depth_facts(table, sweep, workload, suffix)
    shares = best_shares(table)
    for row in shares[shares["drafter"] == "265m"].itertuples():
        facts[f"share_{row.measure}_{row.workload}"] = f"{row.share:.1f} %"
    return facts | _verification_facts(table) | _memory_facts(table) | _datasheet_facts(table) | _open_facts(table)


def _step_facts(table: pd.DataFrame) -> dict[str, str]:
    """SPIN's parts one after another, over one drafter for all, and how many GPUs they take."""
    facts = {}
    for sweep, suffix in (("ablation", ""), ("ablation_round_goodput", "_own")):
        for workload in NAMES:
            steps = homogeneous(table, workload, sweep)
            per_gpu = homogeneous(table, workload, sweep, "per_gpu")
            for step in steps.index[1:]:
                facts[f"{step}_{workload}{suffix}"] = f"{steps[step]:.2f}x"
                facts[f"{step}_{workload}_per_gpu{suffix}"] = f"{per_gpu[step]:.2f}x"
    runs = step_ratios(table)
    for step in ("homogeneous", "pipeline"):
        facts[f"gpus_{step}"] = f"{runs[runs['step'] == step]['gpus'].max()}"
    return facts


def _selection_facts(table: pd.DataFrame, workload: str) -> dict[str, str]:
    """Tokens per second of fixed drafters and of selectors, padded as SPIN runs them."""
    fixed = _fixed(table, workload)
    chosen = of(table, "selection", workload=workload)
    with_places = chosen[chosen["capacity"] == 2].set_index("selector")["tokens_per_s"]
    simple = chosen[chosen["selector"].isin(["Greedy", "EpsilonGreedy"])]["tokens_per_s"].max()
    own = of(table, "selection", workload=workload, selector="Spin, round goodput")
    spin, own_speed = with_places["Spin"], own[own["capacity"].isna()]["tokens_per_s"].iloc[0]
    return {
        f"fixed_{workload}": f"{fixed['llama-68m']:.1f}",
        f"best_fixed_{workload}": f"{fixed.max():.1f} ({str(fixed.idxmax()).removeprefix('llama-').upper()})",
        f"spin_{workload}": f"{spin:.1f}",
        f"own_{workload}": f"{own_speed:.1f}",
        f"simple_{workload}": f"{simple:.1f}",
        f"over_simple_{workload}": f"{spin / simple:.2f}x",
        f"own_over_simple_{workload}": f"{own_speed / simple:.2f}x",
    }


def _layout_facts(table: pd.DataFrame, workload: str) -> dict[str, str]:
    """What padding costs plain decoding and the smallest drafter."""
    padded = _fixed(table, workload)["llama-68m"]
    plain = of(table, "plain", workload=workload).set_index("layout")["tokens_per_s"]
    packed = of(table, "motivation", workload=workload, layout="packed", drafter="llama-68m")["tokens_per_s"].iloc[0]
    lost = 1 - (padded - plain["packed"]) / (packed - plain["packed"])
    return {
        f"plain_padded_{workload}": f"{plain['padded']:.1f}",
        f"plain_packed_{workload}": f"{plain['packed']:.1f}",
        f"padding_loss_{workload}": f"{lost:.0%}",
        f"padding_speed_{workload}": f"{1 - padded / packed:.0%}",
    }


def _fixed(table: pd.DataFrame, workload: str) -> pd.Series:
    """Tokens per second of each drafter for all requests, padded."""
    return of(table, "motivation", workload=workload, layout="padded").set_index("drafter")["tokens_per_s"]


def _verification_facts(table: pd.DataFrame) -> dict[str, str]:
    """How long a verification takes in each layout."""
    facts = {}
    for layout in ("padded", "grouped", "decomposed", "decomposed 32", "packed"):
        for batch in (1, 8, 16, 32) if layout == "decomposed 32" else (16, 32):
            rows = of(table, "decomposition", workload="alpaca", layout=layout, batch=batch)
            facts[f"verify_{layout.replace(' ', '_')}_{batch}"] = f"{rows['verify_ms'].iloc[0]:.0f} ms"
    return facts


def _depth_facts(table: pd.DataFrame, sweep: str, workload: str, suffix: str) -> dict[str, str]:
    """What micro-batches gain, and whether the adaptive depth finds the best one."""
    ratios = depth_ratios(table, sweep, workload)
    fixed = ratios.drop("adaptive")
    main = int(of(table, sweep, workload=workload, depth="adaptive")["main_depth"].iloc[0])
    facts = {
        "best_depth": str(fixed.idxmax()),
        "best_gain": f"{fixed.max():.2f}x",
        "bar": "kept" if fixed.max() >= PIPELINE_BAR else "missed",
        "gain_at_4": f"{fixed['4']:.2f}x",
        "gain_at_9": f"{fixed['9']:.2f}x",
        "adaptive_gain": f"{ratios['adaptive']:.2f}x",
        "adaptive_depth": str(main),
        "near": "kept" if abs(main - int(str(fixed.idxmax()))) <= 1 else "missed",
    }
    return {f"{name}_{workload}{suffix}": text for name, text in facts.items()}


def _open_facts(table: pd.DataFrame) -> dict[str, str]:
    """What the parameters change that the paper leaves open."""
    ratios = open_ratios(table)
    on_demand = ratios[ratios["value"] == "on_demand"].iloc[0]
    return {"open_first": str(ratios["parameter"].iloc[0]), "on_demand": f"{on_demand['ratio']:.2f}x"}


def _datasheet_facts(table: pd.DataFrame) -> dict[str, str]:
    """What the datasheet's engines do."""
    facts = {}
    ratios = open_ratios(table)
    for dtype in DATASHEETS:
        for workload in NAMES:
            plain = of(table, f"datasheet_{dtype}/plain", workload=workload)
            facts[f"plain_{workload}_{dtype}"] = f"{plain['tokens_per_s'].iloc[0]:.0f}"
        for layout in ("padded", "packed"):
            rows = of(table, f"datasheet_{dtype}/decomposition", layout=layout)
            facts[f"verify_{layout}_{dtype}"] = f"{rows['verify_ms'].iloc[0]:.0f} ms"
        label = "datasheet, " + ("float32" if dtype == "float32" else "half precision")
        row = ratios[ratios["value"] == label].iloc[0]
        facts[f"spin_mix_{dtype}"] = f"{row['tokens_per_s']:.0f}"
    return facts


def _memory_facts(table: pd.DataFrame) -> dict[str, str]:
    """Whether a rectangular KV cache of all layers, as long as the longest context for everyone, fits beside 7B."""
    shape, facts = SHAPES["llama-7b-shape"], {}
    for batch in (16, 32, 64):
        for layout in ("padded", "packed"):
            rows = of(table, "decomposition", workload="alpaca", layout=layout, batch=batch)
            keys = int(rows["peak_key_tokens"].iloc[0])
            for dtype, size in (("half", HALF_BYTES), ("full", FULL_BYTES)):
                need = (shape.num_parameters * size + keys * shape.kv_bytes_per_token(size)) / 1e9
                facts[f"memory_{layout}_{batch}_{dtype}"] = f"{need:.1f} GB"
    return facts
