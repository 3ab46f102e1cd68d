"""The validation report: simulated against measured, beside the noise floor; also where it fails."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from spinbench.errors import UserError
from spinbench.metrics.drift import rescaled_errors
from spinbench.metrics.validation import RoundsCompared, job_errors, request_errors, validation_table
from spinbench.report.cells import frame_cells, markdown_table
from spinbench.report.figures.plot import Plot
from spinbench.report.figures.validation import LoadResult, cdf_plot, timelines_plot
from spinbench.report.section import hardware_label
from spinbench.report.verdict import JUDGED, VALIDATION_FILE, headlines, is_judged, limit, metric_table

REPORT_FILE = "report.md"
JOB_LIMIT_PERCENT = 5.0
"""Largest mean absolute error of a job kind on held-out points."""


@dataclass(frozen=True)
class _LoadPage:
    """What the template shows of one load."""

    heading: str
    metrics: str
    requests: str


def write_validation(
    folder: Path, results: Sequence[LoadResult], job_scores: pd.DataFrame, capacity_rps: float, command: str
) -> Path:
    """Writes `report.md`, its figures and `validation.csv` into `folder`; gives the page's path.

    `job_scores` has the held-out errors of the profile's jobs, a row per kind. Raises UserError when it cannot write.
    """
    tables = [
        validation_table(result.real, result.simulated).assign(load=result.load, rate_rps=result.rate_rps)
        for result in results
    ]
    errors = [request_errors(result.real, result.simulated).assign(load=result.load) for result in results]
    everything = pd.concat(tables, ignore_index=True)
    jobs = [job_errors([again.jobs for again in result.decided_again]).assign(load=result.load) for result in results]
    drift = _drift(results, tables)
    plots: list[Plot] = [cdf_plot(results), timelines_plot(results[-1])]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        everything.to_csv(folder / VALIDATION_FILE, index=False, float_format="%.6g")
        pd.concat(errors, ignore_index=True).to_csv(folder / "requests.csv", index=False, float_format="%.6g")
        pd.concat(jobs, ignore_index=True).to_csv(folder / "jobs.csv", index=False, float_format="%.6g")
        if drift is not None:
            drift.to_csv(folder / "rescaled.csv", index=False, float_format="%.6g")
        figures = [(plot, *(path.relative_to(folder) for path in plot.save(folder / "figures"))) for plot in plots]
        page = folder / REPORT_FILE
        template = Environment(
            loader=PackageLoader("spinbench.report"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        ).get_template("validation.md.j2")
        first = results[0]
        text = template.render(
            headlines=[*headlines(everything), _jobs_headline(job_scores)],
            run_jobs=_run_jobs(pd.concat(jobs, ignore_index=True)),
            drift=None if drift is None else _drift_table(drift),
            drift_verdict=None if drift is None else _drift_verdict(drift),
            decided=[_decided(result, again.rounds) for result in results for again in result.decided_again],
            loads=[_load_page(*both) for both in zip(results, tables, errors, strict=True)],
            jobs=markdown_table(tuple(job_scores.columns), frame_cells(job_scores, 1), (True, True)),
            figures=figures,
            capacity=f"{capacity_rps:.3g}",
            method=first.simulated.meta["method"],
            real_hardware=hardware_label(first.real[0].meta),
            dtype=first.simulated.meta["dtype"],
            profile=first.simulated.meta["profile"],
            acceptance=first.simulated.meta["acceptance"],
            trace=first.simulated.meta["trace"],
            warnings=sorted({text for result in results for text in result.simulated.meta["warnings"]}),
            command=command,
        )
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot write the report: {error.strerror or error}") from error
    return page


def _jobs_headline(scores: pd.DataFrame) -> str:
    worst = scores.sort_values("MAPE %").iloc[-1]
    text = f"held-out jobs: mean absolute error at most {worst['MAPE %']:.1f} % ({worst['job']})"
    return text + ("" if worst["MAPE %"] <= JOB_LIMIT_PERCENT else f", above the {JOB_LIMIT_PERCENT:g} % aimed at")


def _decided(result: LoadResult, again: RoundsCompared) -> str:
    equal = f"load {result.load:g}: {again.num_equal} of {again.num_parts} (round, request) pairs equal"
    if again.first_difference is None:
        return equal
    if again.num_equal == 0:
        return f"load {result.load:g}: the two part ways: {again.first_difference}"
    return f"{equal}; first difference: {again.first_difference}"


def _run_jobs(errors: pd.DataFrame) -> str:
    shown = pd.DataFrame(
        {
            "job": errors["job"].str.replace("_", "-"),
            "lane": errors["lane"],
            "load": errors["load"].map("{:g}".format),
            "jobs": errors["jobs"],
            "share of time": errors["share_of_time"].map("{:.1%}".format),
            "real (ms)": errors["real_mean_ms"].map("{:.2f}".format),
            "by the profile (ms)": errors["expected_mean_ms"].map("{:.2f}".format),
            "error": errors["error"].map("{:+.1%}".format),
        }
    )
    return markdown_table(tuple(shown.columns), frame_cells(shown), (True, True))


def _drift(results: Sequence[LoadResult], tables: Sequence[pd.DataFrame]) -> pd.DataFrame | None:
    """Judged metrics with the error as profiled and the error with rescaled times; None for single real runs."""
    parts = [
        table.merge(rescaled_errors(result.real, result.rescaled), on="metric")
        for result, table in zip(results, tables, strict=True)
        if result.rescaled
    ]
    if not parts:
        return None
    both = pd.concat(parts, ignore_index=True)
    columns = ["load", "metric", "noise", "error", "rescaled_error", "rescaled_worst"]
    return both.loc[both["metric"].isin(JUDGED), columns]


def _drift_verdict(drift: pd.DataFrame) -> str:
    judged = [row for row in drift.to_dict("records") if is_judged(row["load"], row["metric"])]
    within = sum(abs(row["rescaled_error"]) <= limit(row["metric"], row["noise"]) for row in judged)
    return f"{within} of {len(judged)}"


def _drift_table(drift: pd.DataFrame) -> str:
    shown = pd.DataFrame({"load": drift["load"].map("{:g}".format), "metric": drift["metric"]})
    shown["noise floor"] = drift["noise"].map("±{:.1%}".format)
    shown["error by the profile"] = drift["error"].map("{:+.1%}".format)
    shown["error by the other runs' times"] = drift["rescaled_error"].map("{:+.1%}".format)
    shown["the worst of them"] = drift["rescaled_worst"].map("{:+.1%}".format)
    return markdown_table(tuple(shown.columns), frame_cells(shown), (True, True))


def _load_page(result: LoadResult, table: pd.DataFrame, errors: pd.DataFrame) -> _LoadPage:
    percents = errors.drop(columns=["load"])
    for column in percents.columns[2:]:
        percents[column] = percents[column].map("{:.1%}".format)
    return _LoadPage(
        heading=f"Load {result.load:g}: {result.rate_rps:.3g} requests/s, {len(result.real)} real runs",
        metrics=metric_table(table),
        requests=markdown_table(tuple(name.replace("_", " ") for name in percents.columns), frame_cells(percents)),
    )
