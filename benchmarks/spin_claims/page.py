"""The page of the report on SPIN's claims: paper, simulated, measured, and why they differ."""

from pathlib import Path

import pandas as pd

from benchmarks.spin_claims.figures import PIPELINE_LABELS, write_figures
from benchmarks.spin_claims.numbers import NAMES, best_shares, depth_ratios, homogeneous, of, open_ratios, step_ratios
from benchmarks.spin_claims.sweeps import DATASHEETS
from benchmarks.spin_claims.text import BARS, CLAIMS, FRAME, Claim
from spinbench.control.arrays import FloatArray
from spinbench.models.model_shape import SHAPES

MEASURED_FILE = "measured.csv"
PIPELINE_BAR = 1.15
PIPELINES = {"pipeline": "", "pipeline_round_goodput": "_own", "datasheet_float32/pipeline": "_float32"}
HALF_BYTES, FULL_BYTES = 2, 4


def write_page(out: Path, table: pd.DataFrame) -> None:
    """Leave README.md and its figures in `out`; SystemExit for a malformed measured.csv."""
    write_figures(out, table)
    facts = collect(table)
    claims = pd.DataFrame([_claim_row(claim, facts, _measured(out)) for claim in CLAIMS])
    text = FRAME.format(
        claims=claims.to_markdown(index=False, disable_numparse=True),
        bars="\n".join(f"- {bar.format(**facts)}" for bar in BARS),
        workloads=_workloads(table),
        selectors=_selectors(table),
        layouts=_layouts(table),
        depths=_depths(table),
        scale=_scale(table),
        open=_open(table),
        **facts,
    )
    (out / "README.md").write_text(text, encoding="utf-8")


def _measured(out: Path) -> dict[str, str]:
    path = out / MEASURED_FILE
    if not path.exists():
        return {}
    table = pd.read_csv(path, dtype=str)
    if list(table.columns) != ["claim", "value", "command"]:
        raise SystemExit(f"{path}: its columns are {', '.join(table.columns)}; they must be claim, value, command")
    unknown = sorted(set(table["claim"]) - {claim.key for claim in CLAIMS})
    if unknown:
        known = ", ".join(claim.key for claim in CLAIMS)
        raise SystemExit(f"{path}: there is no claim {unknown[0]!r}; claims are {known}")
    return dict(zip(table["claim"], table["value"], strict=True))


def _claim_row(claim: Claim, facts: dict[str, str], measured: dict[str, str]) -> dict[str, str]:
    return {
        "claim": claim.text,
        "paper": claim.paper,
        "ours, simulated": claim.simulated.format(**facts),
        "ours, measured": measured.get(claim.key, "-"),
        "key": f"`{claim.key}`",
    }


def collect(table: pd.DataFrame) -> dict[str, str]:
    """What the text quotes, by name."""
    facts: dict[str, str] = {}
    for sweep, suffix in (("ablation", ""), ("ablation_round_goodput", "_own")):
        for workload in NAMES:
            steps = homogeneous(table, workload, sweep)
            per_gpu = homogeneous(table, workload, sweep, "per_gpu")
            for step in steps.index[1:]:
                facts[f"{step}_{workload}{suffix}"] = f"{steps[step]:.2f}x"
                facts[f"{step}_{workload}_per_gpu{suffix}"] = f"{per_gpu[step]:.2f}x"
    for workload in NAMES:
        fixed = of(table, "motivation", workload=workload, layout="padded").set_index("drafter")["tokens_per_s"]
        facts[f"fixed_{workload}"] = f"{fixed['llama-68m']:.1f}"
        facts[f"best_fixed_{workload}"] = f"{fixed.max():.1f} ({str(fixed.idxmax()).removeprefix('llama-').upper()})"
        chosen = of(table, "selection", workload=workload)
        with_places = chosen[chosen["capacity"] == 2].set_index("selector")["tokens_per_s"]
        simple = chosen[chosen["selector"].isin(["Greedy", "EpsilonGreedy"])]["tokens_per_s"].max()
        spin, own = with_places["Spin"], of(table, "selection", workload=workload, selector="Spin, round goodput")
        own_speed = own[own["capacity"].isna()]["tokens_per_s"].iloc[0]
        facts[f"spin_{workload}"], facts[f"own_{workload}"] = f"{spin:.1f}", f"{own_speed:.1f}"
        facts[f"simple_{workload}"] = f"{simple:.1f}"
        facts[f"over_simple_{workload}"] = f"{spin / simple:.2f}x"
        facts[f"own_over_simple_{workload}"] = f"{own_speed / simple:.2f}x"
        plain = of(table, "plain", workload=workload).set_index("layout")["tokens_per_s"]
        facts[f"plain_padded_{workload}"] = f"{plain['padded']:.1f}"
        facts[f"plain_packed_{workload}"] = f"{plain['packed']:.1f}"
        packed = of(table, "motivation", workload=workload, layout="packed", drafter="llama-68m")
        lost = 1 - (fixed["llama-68m"] - plain["packed"]) / (packed["tokens_per_s"].iloc[0] - plain["packed"])
        facts[f"padding_loss_{workload}"] = f"{lost:.0%}"
        facts[f"padding_speed_{workload}"] = f"{1 - fixed['llama-68m'] / packed['tokens_per_s'].iloc[0]:.0%}"
    shares = best_shares(table)
    for row in shares[shares["drafter"] == "265m"].itertuples():
        facts[f"share_{row.measure}_{row.workload}"] = f"{row.share:.1f} %"
    for layout in ("padded", "grouped", "decomposed", "decomposed 32", "packed"):
        name = layout.replace(" ", "_")
        for batch in (16, 32):
            rows = of(table, "decomposition", workload="alpaca", layout=layout, batch=batch)
            facts[f"verify_{name}_{batch}"] = f"{rows['verify_ms'].iloc[0]:.0f} ms"
    for batch in (1, 8):
        rows = of(table, "decomposition", workload="alpaca", layout="decomposed 32", batch=batch)
        facts[f"verify_decomposed_32_{batch}"] = f"{rows['verify_ms'].iloc[0]:.0f} ms"
    facts |= _memory_facts(table) | _datasheet_facts(table)
    for workload in NAMES:
        best = of(table, "best_fixed", workload=workload)
        facts[f"best_fixed_all_{workload}"] = f"{best['tokens_per_s'].mean():.1f}"
    for sweep, suffix in PIPELINES.items():
        for workload in ("alpaca", "cp"):
            ratios = depth_ratios(table, sweep, workload)
            fixed = ratios.drop("adaptive")
            facts[f"best_depth_{workload}{suffix}"] = str(fixed.idxmax())
            facts[f"best_gain_{workload}{suffix}"] = f"{fixed.max():.2f}x"
            facts[f"bar_{workload}{suffix}"] = "kept" if fixed.max() >= PIPELINE_BAR else "missed"
            facts[f"gain_at_4_{workload}{suffix}"] = f"{fixed['4']:.2f}x"
            facts[f"gain_at_9_{workload}{suffix}"] = f"{fixed['9']:.2f}x"
            facts[f"adaptive_gain_{workload}{suffix}"] = f"{ratios['adaptive']:.2f}x"
            adaptive = of(table, sweep, workload=workload, depth="adaptive")
            main = int(adaptive["main_depth"].iloc[0])
            facts[f"adaptive_depth_{workload}{suffix}"] = str(main)
            facts[f"near_{workload}{suffix}"] = "kept" if abs(main - int(str(fixed.idxmax()))) <= 1 else "missed"
    runs = step_ratios(table)
    for step in ("homogeneous", "pipeline"):
        facts[f"gpus_{step}"] = f"{runs[runs['step'] == step]['gpus'].max()}"
    ratios = open_ratios(table)
    facts["open_first"] = str(ratios["parameter"].iloc[0])
    on_demand = ratios[ratios["value"] == "on_demand"].iloc[0]
    facts["on_demand"] = f"{on_demand['ratio']:.2f}x"
    return facts


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


def _workloads(table: pd.DataFrame) -> str:
    """Tokens per second of the steps, in all and per GPU."""
    frames = []
    for sweep, label in (("ablation", "as published"), ("ablation_round_goodput", "round goodput, no limit")):
        runs = step_ratios(table, sweep).assign(reward=label)
        frames.append(runs if sweep == "ablation" else runs[runs["step"] != "homogeneous"])
    runs = pd.concat(frames)
    runs.loc[runs["step"] == "homogeneous", "reward"] = "-"
    grouped = runs.groupby(["workload", "reward", "step"], sort=False)
    shown = grouped.agg(
        tokens=("tokens_per_s", _mean_range), gpus=("gpus", "max"), ratio=("ratio", "mean"), each=("per_gpu", "mean"),
        length=("acceptance_length", "mean"), verify=("verify_ms", "mean"), bubble=("bubble", "mean"),
    ).reset_index()  # fmt: skip
    shown["ratio"] = shown["ratio"].map("{:.2f}x".format)
    shown["bubble"] = shown["bubble"].map("{:.0%}".format)
    for name, digits in (("each", 1), ("length", 2), ("verify", 0)):
        shown[name] = shown[name].map(f"{{:.{digits}f}}".format)
    order = {name: place for place, name in enumerate(NAMES.values())}
    shown = shown.sort_values("workload", key=lambda names: names.map(order), kind="stable")
    shown.columns = [
        "requests", "reward", "step", "tokens/s (seeds)", "GPUs", "over homogeneous", "tokens/s per GPU",
        "acceptance length", "verification (ms)", "target idle",
    ]  # fmt: skip
    return shown.to_markdown(index=False, disable_numparse=True)


def _mean_range(values: pd.Series) -> str:
    return f"{values.mean():.1f} ({values.min():.1f} to {values.max():.1f})"


def _selectors(table: pd.DataFrame) -> str:
    rows = of(table, "selection").copy()
    rows["selector"] = rows["selector"].where(rows["capacity"].isna(), rows["selector"] + ", 2 places a drafter")
    fixed = of(table, "motivation", layout="padded").copy()
    fixed["selector"] = "fixed " + fixed["drafter"].str.removeprefix("llama-")
    plain = of(table, "plain", layout="padded").assign(selector="plain, padded")
    return _speeds(pd.concat([plain, fixed, rows]), "selector", "workload", list(NAMES))


def _layouts(table: pd.DataFrame) -> str:
    rows = of(table, "decomposition")
    parts = []
    for workload in ("alpaca", "cp"):
        wide = rows[rows["workload"] == workload].pivot(index="batch", columns="layout", values="verify_ms")
        wide["padding"] = rows[(rows["workload"] == workload) & (rows["layout"] == "padded")].set_index("batch")[
            "padding"
        ]
        wide = wide[["padding", "padded", "grouped", "decomposed", "decomposed 32", "packed"]].reset_index()
        formats = {"padding": "{:.0%}"}
        for name in wide.columns[1:]:
            wide[name] = wide[name].map(formats.get(name, "{:.0f}").format)
        parts += [f"{NAMES[workload]}, mean verification in ms:", wide.to_markdown(index=False)]
    return "\n\n".join(parts)


def _depths(table: pd.DataFrame) -> str:
    columns = {}
    for sweep, label in PIPELINE_LABELS.items():
        for workload in ("alpaca", "cp"):
            columns[f"{NAMES[workload]}, {label}"] = depth_ratios(table, sweep, workload).map("{:.2f}x".format)
    order = [*map(str, range(1, 10)), "adaptive"]
    wide = pd.DataFrame(columns).loc[order].rename_axis("micro-batches").reset_index()
    return wide.to_markdown(index=False, disable_numparse=True)


def _scale(table: pd.DataFrame) -> str:
    steps = ("homogeneous", "selection", "decomposition", "pipeline")
    runs = pd.concat([of(table, f"scale/{step}").assign(step=step) for step in steps])
    speeds = runs.groupby(["model", "step"], sort=False)["tokens_per_s"].mean().unstack()[list(steps)]
    ratios: FloatArray = speeds.to_numpy() / speeds[["homogeneous"]].to_numpy()
    shown = pd.DataFrame(
        {
            step: [f"{speed:.1f} ({ratio:.2f}x)" for speed, ratio in zip(speeds[step], ratios[:, place], strict=True)]
            for place, step in enumerate(steps)
        },
        index=speeds.index,
    )
    shown = shown.loc[["llama-7b", "llama-13b", "llama-30b"]].rename_axis("target").reset_index()
    return shown.to_markdown(index=False, disable_numparse=True)


def _open(table: pd.DataFrame) -> str:
    shown = open_ratios(table)
    shown["ratio"] = shown["ratio"].map("{:.2f}x".format)
    shown["tokens_per_s"] = shown["tokens_per_s"].map("{:.1f}".format)
    shown.columns = ["open parameter", "value", "all of SPIN over homogeneous", "tokens/s"]
    return shown.to_markdown(index=False, disable_numparse=True)


def _speeds(rows: pd.DataFrame, index: str, columns: str, order: list[str]) -> str:
    wide = rows.pivot_table(index=index, columns=columns, values="tokens_per_s", sort=False)[order]
    wide = wide.sort_values(order[-1])
    best = wide.eq(wide.max())
    shown = wide.map("{:.1f}".format)
    shown = shown.where(~best, "**" + shown + "**").rename(columns=NAMES).reset_index()
    return shown.to_markdown(index=False, disable_numparse=True)
