"""`spinbench report`: tables and figures from the folders of runs and sweeps."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from spinbench.cli.one_line_parser import OneLineParser
from spinbench.errors import UserError
from spinbench.report.page import HTML_FILE, write_pages
from spinbench.report.section import failures, load_sections
from spinbench.report.terminal import print_table
from spinbench.report.validation.verdict import find_validation


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    args = _parser().parse_args(arguments)
    folders: list[Path] = args.folders
    out: Path = args.output or (folders[0] / "report" if len(folders) == 1 else Path("report"))
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder with -o")
    loaded = load_sections(folders)
    print_table(loaded)
    page = write_pages(loaded, failures(folders), out, args.validation or find_validation(folders), args.title)
    html = escape(str(page.with_name(HTML_FILE)))
    Console().print(f"report in {escape(str(page))} and, for a browser, {html}", highlight=False, soft_wrap=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="spinbench report",
        description="Compare all runs and sweeps at or below the given folders: a table here, and a page with "
        "figures, as Markdown and as one HTML file.",
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="folder of a run or a sweep, or one that holds some"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="folder of the page, its figures and tables (default: DIR/report, or ./report for several DIR)",
    )
    parser.add_argument("--title", default="spinbench report", help="title of the page (default: spinbench report)")
    parser.add_argument(
        "--validation",
        type=Path,
        metavar="DIR",
        help="folder of a finished `spinbench validate`, whose verdict the page shows as well (default: a DIR that has "
        "one)",
    )
    return parser
