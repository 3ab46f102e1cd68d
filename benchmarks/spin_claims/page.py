"""The page of the report on SPIN's claims: paper, simulated, measured, and why they differ."""

from pathlib import Path

import pandas as pd

from benchmarks.spin_claims.facts import collect
from benchmarks.spin_claims.figures import PIPELINE_LABELS, write_figures
from benchmarks.spin_claims.numbers import NAMES, depth_ratios, of, open_ratios, step_ratios
from benchmarks.spin_claims.text import BARS, CLAIMS, FRAME, Claim
from spinbench.control.arrays import FloatArray

MEASURED_FILE = "measured.csv"


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
