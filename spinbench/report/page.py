"""The report of a set of runs: what it says, part by part, and the files of it."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from spinbench.errors import UserError
from spinbench.report.pages.document import Block, Document, Items, Part, Text
from spinbench.report.pages.html import html_page
from spinbench.report.pages.markdown import markdown_page
from spinbench.report.pages.page_files import PageFiles
from spinbench.report.section import Loaded, failures, load_sections
from spinbench.report.section_parts import SectionParts
from spinbench.report.validation.verdict import metric_cells, read_verdict
from spinbench.text_file import write_text

REPORT_FILE, HTML_FILE = "report.md", "report.html"
"""The page, and the same as one file for a browser."""


def write_report(
    run_folders: Sequence[Path], out: Path, validation: Path | None = None, title: str = "spinbench report"
) -> Path:
    """The report of the runs and sweeps in the folders, see `write_pages`.

    Raises UserError as that does, and as `load_sections` does.
    """
    return write_pages(load_sections(run_folders), failures(run_folders), out, validation, title)


def write_pages(loaded: Loaded, failed: Sequence[str], out: Path, validation: Path | None, title: str) -> Path:
    """Writes `report.md`, `report.html`, `figures/` and `tables/` into `out`; `failed` says which points of sweeps did.

    Gives the path of the Markdown page, beside which the other is. Runs of another trace, target, dtype, sampling or
    hardware get a section of their own, and the pages say so. The verdict of a `validation` in its folder is put beside
    them. Pages are written last. Raises UserError when a run's tables or the validation are damaged, or `out` cannot be
    written.
    """
    sections, interrupted = loaded
    files = PageFiles(out)
    parts: list[Part] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        if len(sections) > 1:
            parts.append(Part("", (Text(_several(len(sections))),)))
        for place, section in enumerate(sections, start=1):
            several = len(sections) > 1
            own = PageFiles(out, f"section{place}-") if several else files
            parts += SectionParts(section, own, place if several else None).all()
        if validation is not None:
            parts.append(_validation(validation, files))
        left_out = _left_out(interrupted, failed)
        if left_out:
            parts.append(Part("Left out", tuple(left_out), level=2))
        document = Document(title, tuple(parts))
        pages = out / REPORT_FILE, out / HTML_FILE
        for page, text in zip(pages, (markdown_page(document), html_page(document)), strict=True):
            write_text(page, text)
    except OSError as error:
        raise UserError(f"{out}: cannot write the report: {error.strerror or error}") from error
    return out / REPORT_FILE


def _several(count: int) -> str:
    return (
        f"These runs differ in trace, target, dtype, sampling or hardware, so they are shown in {count} sections; "
        "numbers of different sections must not be compared."
    )


def _validation(folder: Path, files: PageFiles) -> Part:
    verdict = read_verdict(folder)
    whole = os.path.relpath(folder / REPORT_FILE, files.out)
    limits = (
        "Limits: 3 % for throughput, 5 % or the noise floor for latencies; the noise floor is how far a real run is "
        f"from the median of the real runs ([the whole validation]({whole}))."
    )
    headers, rows = metric_cells(verdict.judged, with_load=True)
    is_text = tuple(header in ("metric", "within limit") for header in headers)
    blocks: list[Block] = [
        Items(verdict.headlines),
        files.cells("validation", headers, rows, is_text, verdict.judged, limits),
    ]
    if verdict.jobs is not None:
        blocks += [
            Text("Every job of the real runs beside what the profile says of it, and the error of their sum:"),
            files.table("validation-jobs", verdict.jobs, ""),
        ]
    if verdict.scores is not None:
        blocks += [
            Text("The profile on jobs that it was not fitted to, errors in percent:"),
            files.table("held-out-jobs", verdict.scores, "", digits=1),
        ]
    return Part("How true the simulator is on this machine", tuple(blocks), level=2, short="Calibration and validation")


def _left_out(interrupted: Iterable[Path], failed: Iterable[str]) -> list[Block]:
    blocks: list[Block] = []
    folders, reasons = [f"`{folder}`" for folder in interrupted], list(failed)
    if folders:
        blocks += [Text("These runs were interrupted and take no part in the comparison:"), Items(folders)]
    if reasons:
        blocks += [Text("These points of sweeps failed:"), Items(reasons)]
    return blocks
