"""The report: one Markdown page, its figures, and a CSV beside every figure and table."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from spinbench.errors import UserError
from spinbench.report.cells import HEADERS, comparison_cells, frame_cells, markdown_table
from spinbench.report.colours import colour_map
from spinbench.report.compare import (
    comparison_table,
    fastest,
    fastest_by_category,
    headlines,
    oracle_table,
    switching_table,
)
from spinbench.report.figures.acceptance import acceptance_plot, positions_plot
from spinbench.report.figures.latency import latency_plot
from spinbench.report.figures.padding import padding_plot
from spinbench.report.figures.plot import Plot
from spinbench.report.figures.selection import selection_plot
from spinbench.report.figures.throughput import throughput_plot
from spinbench.report.figures.timeline import timeline_plot
from spinbench.report.lossless import Losslessness, check_outputs
from spinbench.report.provenance import Sample, commands, facts, model_table, samples
from spinbench.report.section import Section, Setting, load_sections
from spinbench.report.verdict import read_verdict

REPORT_FILE = "report.md"
SHOWN_DIFFERENCES = 10


@dataclass(frozen=True)
class Table:
    """A table of the page and the CSV with its unrounded numbers."""

    heading: str
    markdown: str
    csv: str


@dataclass(frozen=True)
class SectionPage:
    """Everything that the template shows of one section."""

    heading: str
    headlines: list[str]
    losslessness: str
    differences: Table | None
    comparisons: list[Table]
    categories: Table | None
    oracle: Table | None
    switching: Table | None
    figures: list[tuple[Plot, str, str]]
    """Each with the paths of its image and its CSV, relative to the page."""
    nothing_padded: bool
    sample_label: str
    samples: list[Sample]
    models: str
    facts: list[tuple[str, str]]
    commands: list[str]


def write_report(
    run_folders: Sequence[Path], out: Path, validation: Path | None = None, title: str = "spinbench report"
) -> Path:
    """Writes `report.md`, `figures/` and `tables/` into `out` from all runs below the folders; gives the page's path.

    Runs of another trace, target, dtype, sampling or hardware get a section of their own, and the page says so. The
    verdict of a `validation` in its folder is put beside them. The page is written last. Raises UserError when there is
    no complete run, a run or the validation is damaged, or `out` cannot be written.
    """
    verdict = read_verdict(validation) if validation is not None else None
    sections, interrupted = load_sections(run_folders)
    try:
        out.mkdir(parents=True, exist_ok=True)
        pages = [
            _section_page(
                section, out, "" if len(sections) == 1 else f"section{place}-", place if len(sections) > 1 else None
            )
            for place, section in enumerate(sections, start=1)
        ]
        text = _template().render(
            title=title,
            sections=pages,
            interrupted=[str(folder) for folder in interrupted],
            verdict=verdict,
            validation=os.path.relpath(validation / REPORT_FILE, out) if validation is not None else "",
        )
        page = out / REPORT_FILE
        temporary = page.with_name(f".{REPORT_FILE}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, page)
    except OSError as error:
        raise UserError(f"{out}: cannot write the report: {error.strerror or error}") from error
    return page


def _section_page(section: Section, out: Path, prefix: str, number: int | None) -> SectionPage:
    colours = colour_map((setting.method for setting in section.settings), section.drafters)
    plots = [
        throughput_plot(section, colours),
        acceptance_plot(section),
        positions_plot(section, colours),
        selection_plot(section, colours),
        latency_plot(section, colours),
        padding_plot(section, colours),
        timeline_plot(section),
    ]
    figures = []
    for plot in filter(None, plots):
        image, data = plot.save(out / "figures", prefix)
        figures.append((plot, image.relative_to(out).as_posix(), data.relative_to(out).as_posix()))
    losslessness = check_outputs(section)
    shown = _shown_setting(section)
    what = f"{section.target}, trace {section.trace}, {section.dtype}, {section.hardware}"
    return SectionPage(
        heading=what if number is None else f"Section {number}: {what}",
        headlines=headlines(section),
        losslessness=losslessness.sentence,
        differences=_differences(losslessness, out, prefix),
        comparisons=[_comparison(section, batch, out, prefix) for batch in section.batches],
        categories=_categories(section, out, prefix),
        oracle=_oracle(section, out, prefix),
        switching=_switching(section, out, prefix),
        figures=figures,
        nothing_padded=plots[5] is None,
        sample_label=f"{shown.label} at batch {shown.batch}",
        samples=samples(shown),
        models=_plain_markdown(model_table(section)),
        facts=facts(section),
        commands=commands(section),
    )


def _shown_setting(section: Section) -> Setting:
    """The setting whose answers are shown: the fastest at the smallest batch size."""
    batch = section.batches[0]
    label = fastest(comparison_table(section, batch))[0]
    return next(setting for setting in section.at(batch) if setting.label == label)


def _comparison(section: Section, batch: int, out: Path, prefix: str) -> Table:
    table = comparison_table(section, batch)
    markdown = markdown_table(HEADERS, comparison_cells(table))
    return Table(f"Batch {batch}", markdown, _save_csv(table, out, f"{prefix}comparison-batch{batch}"))


def _categories(section: Section, out: Path, prefix: str) -> Table | None:
    batch = section.batches[0]
    table = fastest_by_category(section, batch)
    if table.empty:
        return None
    csv = _save_csv(table, out, f"{prefix}fastest-by-category-batch{batch}")
    headers = {
        "category": "category",
        "plain_tokens_per_s": "plain (tokens/s)",
        "best_fixed_drafter": "fastest fixed drafter",
        "best_fixed_speedup": "fixed over plain (x)",
        "best_method": "fastest of all",
        "best_speedup": "all over plain (x)",
    }
    return Table(f"Fastest by category of request, batch {batch}", _plain_markdown(table.rename(columns=headers)), csv)


def _oracle(section: Section, out: Path, prefix: str) -> Table | None:
    table = oracle_table(section)
    if table.empty:
        return None
    headers = {
        "share_of_oracle": "share of oracle goodput",
        "regret_s": "regret (s)",
        "regret_tokens": "regret (tokens)",
    }
    csv = _save_csv(table, out, f"{prefix}share-of-oracle")
    return Table("Beside the oracle", _plain_markdown(table.rename(columns=headers)), csv)


def _switching(section: Section, out: Path, prefix: str) -> Table | None:
    table = switching_table(section)
    if table.empty:
        return None
    headers = {"mean_stall_ms": "mean stall (ms)", "p99_stall_ms": "p99 stall (ms)"}
    csv = _save_csv(table, out, f"{prefix}switches")
    return Table("Changes of drafter", _plain_markdown(table.rename(columns=headers)), csv)


def _differences(losslessness: Losslessness, out: Path, prefix: str) -> Table | None:
    differing = losslessness.differing
    if differing.empty:
        return None
    csv = _save_csv(differing, out, f"{prefix}differing-outputs")
    more = f" (first {SHOWN_DIFFERENCES} of {len(differing)})" if len(differing) > SHOWN_DIFFERENCES else ""
    return Table(
        f"Outputs that differ from plain decoding{more}", _plain_markdown(differing.head(SHOWN_DIFFERENCES)), csv
    )


def _plain_markdown(frame: pd.DataFrame) -> str:
    texts = [not pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    return markdown_table(tuple(map(str, frame.columns)), frame_cells(frame), texts)


def _save_csv(frame: pd.DataFrame, out: Path, name: str) -> str:
    path = out / "tables" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.6g")
    return path.relative_to(out).as_posix()


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("spinbench.report"),
        autoescape=False,  # the page is Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.md.j2")
