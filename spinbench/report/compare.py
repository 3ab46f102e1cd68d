"""Who is fastest and by how much: the comparison table and the sentence that says it."""

import math

import pandas as pd

from spinbench.metrics.latency import completed_requests
from spinbench.report.section import Section
from spinbench.report.server_load import Load
from spinbench.report.setting import Setting

THROUGHPUT = "output_throughput"


def comparison_table(section: Section, load: Load) -> pd.DataFrame:
    """One row per setting of the load: medians over repeats, spread of the throughput, speed-up over plain.

    Speed-ups, spread included, divide by plain's median, so that plain's own row shows the baseline's noise.
    """
    return pd.DataFrame([_row(section, setting) for setting in section.at(load)])


def _row(section: Section, setting: Setting) -> dict[str, str | int | float]:
    throughput = setting.values(THROUGHPUT)
    baseline = section.baseline_of(setting)
    plain = baseline.median(THROUGHPUT) if baseline else float("nan")
    return {
        "method": setting.label,
        "engine": setting.engine,
        "is_baseline": setting.is_baseline,
        "repeats": len(setting.runs),
        "tokens_per_s": setting.median(THROUGHPUT),
        "tokens_per_s_min": float(throughput.min()) if len(throughput) else float("nan"),
        "tokens_per_s_max": float(throughput.max()) if len(throughput) else float("nan"),
        "speedup": setting.median(THROUGHPUT) / plain,
        "speedup_min": float(throughput.min()) / plain if len(throughput) else float("nan"),
        "speedup_max": float(throughput.max()) / plain if len(throughput) else float("nan"),
        "acceptance_length": setting.median("acceptance_length"),
        "ttft_p50_ms": setting.median("median_ttft_ms"),
        "ttft_p99_ms": setting.median("p99_ttft_ms"),
        "tpot_p50_ms": setting.median("median_tpot_ms"),
        "tpot_p99_ms": setting.median("p99_tpot_ms"),
        "devices": setting.devices,
        "tokens_per_s_per_device": setting.median(THROUGHPUT) / setting.devices,
        "tokens_per_s_per_user": 1e3 / setting.median("median_tpot_ms"),
        "host_share": setting.median("host_share"),
        "padding_share": setting.median("padding_share"),
    }


def oracle_table(section: Section) -> pd.DataFrame:
    """Per setting that was simulated beside the oracle: kind of oracle, share of its goodput, regret; best first."""
    rows = []
    for setting in section.settings:
        judged = [run.meta["oracle"] for run in setting.runs if run.meta.get("oracle")]
        if judged:
            medians = pd.DataFrame(judged)[["share_of_oracle", "regret_s", "regret_tokens"]].median()
            rows.append(
                {"method": setting.label, "load": setting.load.label, "oracle": judged[0]["kind"], **medians.to_dict()}
            )
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values(["load", "share_of_oracle"], ascending=[True, False])


def switching_table(section: Section) -> pd.DataFrame:
    """Per setting that changed drafters: how often, and how long requests waited for it; empty where none differ."""
    rows = [
        {
            "method": setting.label,
            "load": setting.load.label,
            "switches": setting.median("num_switches"),
            "mean_stall_ms": setting.median("mean_switch_stall_ms"),
            "p99_stall_ms": setting.median("p99_switch_stall_ms"),
        }
        for setting in section.settings
        if (setting.values("num_switches") > 0).any()
    ]
    table = pd.DataFrame(rows)
    if len(table.drop(columns=["method", "load"], errors="ignore").drop_duplicates()) < 2:
        return pd.DataFrame()
    return table


def fastest(table: pd.DataFrame) -> list[str]:
    """The methods of a comparison table that may be the fastest: the best median, then those that reach it."""
    ranked = table.sort_values("tokens_per_s", ascending=False, kind="stable")
    level = ranked["tokens_per_s_max"] >= ranked["tokens_per_s_min"].iloc[0]
    return [str(name) for name in ranked.loc[level, "method"]]


def headline(section: Section, load: Load) -> str:
    """One sentence: the fastest setting, its speed-up and spread, and whether the runner-up is really slower.

    The oracle is no setting that anybody could run, and is left out where there are others.
    """
    oracles = [setting.label for setting in section.at(load) if setting.is_oracle]
    table = comparison_table(section, load)
    runnable = table[~table["method"].isin(oracles)]
    ranked = (table if runnable.empty else runnable).sort_values("tokens_per_s", ascending=False, kind="stable")
    ranked = ranked.to_dict("records")
    best = ranked[0]
    spread = _spread(best["tokens_per_s_min"], best["tokens_per_s_max"], best["repeats"])
    gain = "" if best["is_baseline"] or math.isnan(best["speedup"]) else f"{best['speedup']:.2f}x plain, "
    speed = f"{gain}{best['tokens_per_s']:.1f} output tokens/s ({spread})"
    text = f"At {load.label} the fastest is **{best['method']}**: {speed}"
    if len(ranked) < 2:
        return text + "."
    second = ranked[1]
    told_apart = best["tokens_per_s_min"] > second["tokens_per_s_max"]
    next_gain = "" if math.isnan(second["speedup"]) else f"{second['speedup']:.2f}x, "
    text += f"; next is {second['method']} ({next_gain}{second['tokens_per_s']:.1f} tokens/s)"
    if best["repeats"] < 2 or second["repeats"] < 2:
        return text + ". There are too few repeats to tell the two apart."
    return text + ("." if told_apart else ", and the repeats of the two overlap: they cannot be told apart.")


def best_fixed(section: Section, load: Load) -> Setting | None:
    """In hindsight, the fastest setting of the load that drafts with one drafter; None when there is none.

    With a drafter and K for each run of a sweep it is the best fixed drafter and K, which no selector knew in advance.
    """
    fixed = [one for one in section.at(load) if len(one.drafters_used) == 1 and not one.is_oracle]
    return max(fixed, key=lambda setting: setting.median(THROUGHPUT), default=None)


def best_selector(section: Section, load: Load) -> Setting | None:
    """The fastest setting of the load that chooses among drafters; None when there is none."""
    choosing = [one for one in section.at(load) if len(one.drafters_used) > 1 and not one.is_oracle]
    return max(choosing, key=lambda setting: setting.median(THROUGHPUT), default=None)


def selector_sentence(section: Section, load: Load) -> str | None:
    """One sentence: the best selector against the best fixed drafter; None when the load lacks either."""
    best, rival = best_selector(section, load), best_fixed(section, load)
    if best is None or rival is None:
        return None
    ratio = best.median(THROUGHPUT) / rival.median(THROUGHPUT)
    overlap = best.values(THROUGHPUT).min() <= rival.values(THROUGHPUT).max() and (
        best.values(THROUGHPUT).max() >= rival.values(THROUGHPUT).min()
    )
    noise = ", within the spread of the repeats" if overlap else ""
    what = f"Choosing among drafters ({best.label}) gives {ratio:.2f}x the best fixed choice ({rival.label})"
    return f"{what} at {load.label}{noise}."


def _spread(low: float, high: float, repeats: int) -> str:
    return f"{low:.1f} to {high:.1f} over {repeats} repeats" if repeats > 1 else "one run, spread unknown"


def category_table(section: Section, load: Load) -> pd.DataFrame:
    """Output tokens per second of service by category and setting, pooled over repeats; one column per label.

    Service runs from first scheduling to finish, so at batch 1 this is the decoding speed that a request saw.
    """
    columns: dict[str, pd.Series] = {}
    for setting in section.at(load):
        requests = pd.concat([completed_requests(run.requests) for run in setting.runs])
        service_s = requests["finish_s"] - requests["first_scheduled_s"]
        by_category = requests.assign(service_s=service_s).dropna(subset=["category"]).groupby("category")
        totals = by_category[["output_tokens", "service_s"]].sum()
        columns[setting.label] = totals["output_tokens"] / totals["service_s"]
    return pd.DataFrame(columns)


def fastest_by_category(section: Section, load: Load) -> pd.DataFrame:
    """Per category: the fastest fixed drafter, the fastest of all, and both as a multiple of plain.

    Without a run with one drafter the columns of the first are left out; empty where there is nothing to compare.
    """
    speeds = category_table(section, load)
    if len(speeds.columns) < 2:
        return pd.DataFrame()
    plain = next((setting.label for setting in section.at(load) if setting.is_baseline), None)
    fixed = [s.label for s in section.at(load) if len(s.drafters_used) == 1 and s.label in speeds]
    rows = []
    for category, row in speeds.iterrows():
        best = str(row.idxmax())
        of_plain = row[plain] if plain else float("nan")
        found: dict[str, object] = {"category": category, "plain_tokens_per_s": of_plain}
        if fixed:
            best_fixed = str(row[fixed].idxmax())
            found |= {"best_fixed_drafter": best_fixed, "best_fixed_speedup": row[best_fixed] / of_plain}
        rows.append({**found, "best_method": best, "best_speedup": row[best] / of_plain})
    return pd.DataFrame(rows)
