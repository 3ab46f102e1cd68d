"""The validation report: simulated against measured, beside the noise floor; also where it fails."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from spinbench.errors import UserError
from spinbench.metrics.drift import rescaled_errors
from spinbench.metrics.validation import job_errors, request_errors, validation_table
from spinbench.report.csv_file import write_csv
from spinbench.report.figures.validation import LoadResult, cdf_plot, timelines_plot
from spinbench.report.pages.cells import frame_cells, text_columns
from spinbench.report.pages.document import Code, Document, Items, Part, Table, Text
from spinbench.report.pages.html import html_page
from spinbench.report.pages.markdown import markdown_page
from spinbench.report.pages.page_files import PageFiles
from spinbench.report.section import hardware_label
from spinbench.report.validation.verdict import (
    JOBS_FILE,
    JUDGED,
    SCORES_FILE,
    VALIDATION_FILE,
    decision_lines,
    headlines,
    is_judged,
    is_within,
    metric_cells,
    run_jobs,
    signed_percent,
)
from spinbench.text_file import write_text

REPORT_FILE, HTML_FILE = "report.md", "report.html"
REQUESTS_FILE, RESCALED_FILE = "requests.csv", "rescaled.csv"
JOB_LIMIT_PERCENT = 5.0
"""Largest mean absolute error of a job kind on held-out points."""
JUDGED_BY = (
    "Judged are output throughput (error at most 3 %) and median and p90 of TTFT and TPOT (at most 5 %, or the "
    "noise floor where that is larger), below and at capacity. Noise floor: the largest distance of a real run "
    "from the median of the real runs. Shares (padding, host, occupancy) are compared as differences. Capacity: "
    "{capacity:.3g} requests/s, simulated with all requests waiting."
)
SINGLE = (
    "Single requests, against each one's own median over the real runs (absolute relative error, and how far a "
    "real run is from that median at the most):"
)
AGAIN = (
    "With the durations of the real run, the simulator makes every decision again; drafter, K, drafted and "
    "accepted tokens per (round, request)."
)
NEAR_TIES = (
    " In bfloat16 a text may leave the recorded one where two tokens nearly tie, since a batch of another size "
    "rounds differently; jobs differ from there on, and exactness is to be shown in float32."
)
EVERY_JOB = (
    "Every job of the real runs, beside what the profile says of that very job: mean duration, and the error of "
    "their sum. What is off here is off in the profile, or the machine is no longer what it was when it was "
    "profiled; the rest of the errors above comes from when jobs were waiting for one another."
)
HELD_OUT = (
    "Mean, 90th percentile and sign of the errors, as shares of each job's median time. noise: half of what the middle "
    "80 % of its repeats span. floor: the mean absolute error of somebody who knew all times, since the medians that "
    "predictions are held against are unsure themselves."
)
RESCALED = (
    "For each real run the simulation once more, with the profile's times of every kind of job and lane scaled to the "
    "machine's pace of that hour: to what jobs of the profile took when they were timed again right before and after "
    "that run, and to what these jobs took in the *other* real runs at that load. What is off by the latter is the "
    "simulator, and no longer the profile or the drift of the machine. Median error over the runs, and the worst of "
    "them."
)
SCALED = {"pace": "at the pace around each run", "rescaled": "by the other runs' times"}
"""How times were scaled: columns of the table by how they begin, and what they are called."""


def write_validation(
    folder: Path, results: Sequence[LoadResult], job_scores: pd.DataFrame, capacity_rps: float, command: str
) -> Path:
    """Writes `report.md`, `report.html`, figures and `validation.csv` into `folder`; gives the Markdown page's path.

    `job_scores` has the held-out errors of the profile's jobs, a row per kind. Raises UserError when it cannot write.
    """
    tables = [
        validation_table(result.real, result.simulated).assign(load=result.load, rate_rps=result.rate_rps)
        for result in results
    ]
    errors = [request_errors(result.real, result.simulated).assign(load=result.load) for result in results]
    everything = pd.concat(tables, ignore_index=True)
    jobs = pd.concat([_jobs(result) for result in results], ignore_index=True)
    rescaled = _rescaled(results, tables)
    simulated = results[0].simulated
    exactness = AGAIN + (NEAR_TIES if simulated.meta["dtype"] == "bfloat16" else "")
    decided = [
        line
        for result in results
        for line in decision_lines(result.load, [again.rounds for again in result.decided_again])
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / VALIDATION_FILE, everything)
        write_csv(folder / REQUESTS_FILE, pd.concat(errors, ignore_index=True))
        write_csv(folder / JOBS_FILE, jobs)
        if len(rescaled):
            write_csv(folder / RESCALED_FILE, rescaled)
        files = PageFiles(folder)
        answer = Items([*headlines(everything), *_rescaled_verdicts(rescaled), _jobs_headline(job_scores)])
        parts = [
            Part("", (answer, Text(JUDGED_BY.format(capacity=capacity_rps)))),
            *(_load_part(*both) for both in zip(results, tables, errors, strict=True)),
            Part("Decisions and acceptance", (Text(exactness), Items(decided)), 2),
            Part(
                "Where errors of time come from",
                (Text(EVERY_JOB), _table(run_jobs(jobs), JOBS_FILE), *_rescaled_blocks(rescaled)),
                2,
            ),
            Part(
                "The cost model on jobs it has not seen",
                (Text(HELD_OUT), files.table(Path(SCORES_FILE).stem, job_scores, "", digits=1)),
                2,
            ),
            *(
                Part(plot.title, (files.picture(plot),), 2, short)
                for plot, short in ((cdf_plot(results), "Latencies"), (timelines_plot(results[-1]), "Timelines"))
            ),
            Part("Where this comes from", (_origins(results), Code(command, "sh")), 2),
        ]
        document = Document(f"Simulator against runtime: {simulated.meta['method']}", tuple(parts))
        write_text(folder / HTML_FILE, html_page(document))
        page = folder / REPORT_FILE
        write_text(page, markdown_page(document))
    except OSError as error:
        raise UserError(f"{folder}: cannot write the report: {error.strerror or error}") from error
    return page


def _jobs(result: LoadResult) -> pd.DataFrame:
    """Errors of jobs at a load, with those of the profile's own jobs as timed again, where they were."""
    errors = job_errors([again.jobs for again in result.decided_again]).assign(load=result.load)
    if not result.pace:
        return errors
    again = job_errors(result.pace)[["job", "lane", "error"]].rename(columns={"error": "pace_error"})
    return errors.merge(again, on=["job", "lane"], how="left")


def _rescaled(results: Sequence[LoadResult], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Judged metrics, their error as profiled and with rescaled times; no rows where no times were rescaled."""
    rows = []
    for result, table in zip(results, tables, strict=True):
        judged = table.loc[table["metric"].isin(JUDGED), ["load", "metric", "noise", "error"]]
        for name, summaries in (("pace", result.at_pace), ("rescaled", result.rescaled)):
            if summaries:
                errors = rescaled_errors(result.real, summaries)
                judged = judged.merge(errors.set_index("metric").add_prefix(f"{name}_").reset_index(), on="metric")
        rows.append(judged)
    everything = pd.concat(rows, ignore_index=True)
    return everything if len(everything.columns) > 4 else everything.iloc[:0]


def _rescaled_blocks(rescaled: pd.DataFrame) -> list[Text | Table]:
    if not len(rescaled):
        return []
    shown = pd.DataFrame(
        {
            "metric": rescaled["metric"],
            "load": rescaled["load"].map("{:g}".format),
            "noise floor": rescaled["noise"].map("±{:.1%}".format),
            "error by the profile": rescaled["error"].map(signed_percent),
        }
    )
    for name, label in SCALED.items():
        if f"{name}_error" in rescaled:
            shown[label] = rescaled[f"{name}_error"].map(signed_percent)
            shown[f"{label}, worst"] = rescaled[f"{name}_worst"].map(signed_percent)
    return [Text(RESCALED), _table(shown, RESCALED_FILE)]


def _rescaled_verdicts(rescaled: pd.DataFrame) -> list[str]:
    """How many judged figures are within their limits by each scaling that there is."""
    verdicts = []
    for name, label in SCALED.items():
        column = f"{name}_error"
        if column in rescaled:
            known = rescaled[rescaled[column].notna()].to_dict("records")
            judged = [row for row in known if is_judged(row["load"], row["metric"])]
            within = sum(is_within(row["metric"], row["noise"], row[column]) for row in judged)
            verdicts.append(f"{label}: {within} of {len(judged)} judged figures are within their limits")
    return verdicts


def _origins(results: Sequence[LoadResult]) -> Items:
    real, meta = results[0].real[0].meta, results[0].simulated.meta
    profile, acceptance, trace = meta["profile"], meta["acceptance"], meta["trace"]
    warnings = sorted({text for result in results for text in result.simulated.meta["warnings"]})
    return Items(
        [
            f"real: {hardware_label(real)}, {meta['dtype']}",
            f"profile: {profile['kind']}, {profile['source']}, {profile['created']}, sha256 {profile['sha256'][:12]}",
            f"acceptance: {acceptance['kind']} from {acceptance['source']}",
            f"trace: {trace['name']}, {trace['num_requests']} requests, sha256 {trace['sha256'][:12]}",
            *(f"outside the profiled range: {text}" for text in warnings),
        ]
    )


def _table(frame: pd.DataFrame, csv: str) -> Table:
    return Table(tuple(map(str, frame.columns)), frame_cells(frame), text_columns(frame), "", csv)


def _jobs_headline(scores: pd.DataFrame) -> str:
    worst = scores.sort_values("MAPE %").iloc[-1]
    text = (
        f"held-out jobs: mean absolute error at most {worst['MAPE %']:.1f} % ({worst['job']}, of which the timings' "
        f"own doubt explains {worst['floor %']:.1f} %)"
    )
    return text + ("" if worst["MAPE %"] <= JOB_LIMIT_PERCENT else f", above the {JOB_LIMIT_PERCENT:g} % aimed at")


def _load_part(result: LoadResult, table: pd.DataFrame, errors: pd.DataFrame) -> Part:
    percents = errors.drop(columns=["load"])
    for column in percents.columns[2:]:
        percents[column] = percents[column].map("{:.1%}".format)
    headers, rows = metric_cells(table)
    is_text = (True, *[False] * (len(headers) - 2), True)
    figures = Table(headers, rows, is_text, "", VALIDATION_FILE)
    single = _table(percents.rename(columns=lambda name: str(name).replace("_", " ")), REQUESTS_FILE)
    heading = f"Load {result.load:g}: {result.rate_rps:.3g} requests/s, {len(result.real)} real runs"
    return Part(heading, (figures, Text(SINGLE), single), 2, f"Load {result.load:g}")
