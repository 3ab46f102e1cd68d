import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from spinbench.report.figures.colours import IN_THE_DARK, PAPER
from spinbench.report.page import HTML_FILE
from spinbench.report.pages.cells import Cell
from spinbench.report.pages.document import Code, Document, Items, Part, Table, Text
from spinbench.report.pages.html import html_page, inline
from spinbench.report.pages.markdown import markdown_page

VOID = {"meta", "path", "use", "rect", "circle", "image"}


class Reader(HTMLParser):
    """What a page has: tables as dicts from header to (text, number), identifiers, links, tags that were left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[dict[str, tuple[str, float]]]] = {}
        self.ids: list[str] = []
        self.links: list[str] = []
        self.external: list[str] = []
        self.open: list[str] = []
        self._heading = ""
        self._headers: list[str] = []
        self._number = float("nan")
        self._cells: list[tuple[str, float]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.open += [] if tag in VOID else [tag]
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if tag == "a" else []
        self.external += [
            v or "" for k, v in attrs if k in ("src", "data", "action") or (k == "href" and tag == "link")
        ]
        if tag in ("h1", "h2", "h3"):
            self._heading = ""
        if tag == "table":
            self._headers = []
            self.tables[self._heading] = []
        if tag == "td":
            self._number = float(values.get("data-n") or "nan")
            self._cells.append(("", self._number))
        if tag == "th":
            self._headers.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for key, value in attrs if key == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag
        if tag == "tr" and self._cells:
            self.tables[self._heading].append(dict(zip(self._headers, self._cells, strict=True)))
            self._cells = []

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside in ("h1", "h2", "h3"):
            self._heading += data
        elif inside == "th":
            self._headers[-1] += data
        elif inside == "td":
            self._cells[-1] = (data, self._number)


@pytest.fixture(scope="session")
def folder(page: Path) -> Path:
    return page.parent


@pytest.fixture(scope="session")
def html(folder: Path) -> Reader:
    return Reader((folder / HTML_FILE).read_text(encoding="utf-8"))


def test_the_page_needs_nothing_else(folder: Path, html: Reader) -> None:
    text = (folder / HTML_FILE).read_text(encoding="utf-8")
    assert html.open == []
    assert html.external == []
    assert not re.search(r"@import|url\((?!#)", text)
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, which nobody fetches
    assert "default-src 'none'" in text


def test_identifiers_are_unique_and_links_lead_somewhere(folder: Path, html: Reader) -> None:
    assert len(html.ids) == len(set(html.ids))
    text = (folder / HTML_FILE).read_text(encoding="utf-8")
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', text))
    assert used <= set(html.ids)
    for link in html.links:
        assert link[1:] in html.ids if link.startswith("#") else (folder / link).is_file(), link


def test_every_figure_is_in_it_with_alt_text_and_its_numbers_beside_it(folder: Path) -> None:
    text = (folder / HTML_FILE).read_text(encoding="utf-8")
    pictures = sorted(path.stem for path in (folder / "figures").glob("*.png"))
    labels = re.findall(r'<svg role="img" aria-label="([^"]{40,})"', text)
    assert len(labels) == len(pictures) >= 7
    for name in pictures:
        assert not pd.read_csv(folder / "figures" / f"{name}.csv").empty
        assert f"figures/{name}.csv" in text


def test_figures_follow_the_scheme(folder: Path) -> None:
    text = (folder / HTML_FILE).read_text(encoding="utf-8")
    assert f"light-dark({PAPER}, {IN_THE_DARK[PAPER]})" in text
    for colour in IN_THE_DARK:
        assert not re.search(rf"(?:fill|stroke): {colour}", text)


def test_both_pages_say_the_same() -> None:
    document = Document(
        "A & B",
        (
            Part("", (Items(["**best** of `a<b`", "see [it](x.csv)"]), Text("*so*"))),
            Part(
                "T",
                (Table(("name", "x"), [[Cell("a|<b>"), Cell("2.0", True, 2.04)]], (True, False), "Note.", "x.csv"),),
            ),
            Part("C", (Code("```\n<x>", "text", "folded"),), level=2),
        ),
    )
    markdown, html = markdown_page(document), html_page(document)
    assert "- **best** of `a<b`\n- see [it](x.csv)\n\n*so*" in markdown
    assert "<li><strong>best</strong> of <code>a&lt;b</code></li>" in html
    assert '<a href="x.csv">it</a>' in html
    assert re.search(r"\| a\\\|<b>\s*\|\s*\*\*2.0\*\*\s*\|", markdown)
    assert '<td>a|&lt;b&gt;</td><td class="number best" data-n="2.04">2.0</td>' in html
    assert "````text\n```\n<x>\n````" in markdown
    assert '<pre tabindex="0">```\n&lt;x&gt;</pre>' in html


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b*c*d", "a_b*c*d"),
        ("K=[2,2,3,8] (x)", "K=[2,2,3,8] (x)"),
        ("*all of it.*", "<em>all of it.</em>"),
        ("<script>", "&lt;script&gt;"),
    ],
)
def test_what_is_no_markup_stays_as_it_is(text: str, expected: str) -> None:
    assert inline(text) == expected


def test_numbers_are_those_of_the_runs_tables(runs: Path, folder: Path, html: Reader) -> None:
    markdown = (folder / "report.md").read_text()
    for batch in (1, 4):
        rows = {row["method"][0]: row for row in html.tables[f"Batch {batch}"]}
        for method in ("plain", "prompt lookup", "spin"):
            found = []
            for run in sorted((runs / f"{method.replace(' ', '_')}-b{batch}").iterdir()):
                requests, rounds = (
                    pq.read_table(run / f"{name}.parquet").to_pandas() for name in ("requests", "rounds")
                )
                spans = pq.read_table(run / "spans.parquet").to_pandas()
                wall_s = max(spans["end_s"].max(), requests["finish_s"].max())
                tpot = (requests["finish_s"] - requests["first_token_s"]) / (requests["output_tokens"] - 1) * 1e3
                found.append((requests["output_tokens"].sum(), wall_s, rounds["emitted"].mean(), tpot.median()))
            tokens, wall_s, length, tpot_ms = np.median(found, axis=0)
            shown = rows[method]
            assert shown["acceptance length"][1] == pytest.approx(length)
            assert shown["TPOT p50 (ms)"] == (f"{tpot_ms:,.1f}", pytest.approx(tpot_ms))
            # the run ends a moment after its last job
            assert shown["output tokens/s (min..max)"][1] == pytest.approx(tokens / wall_s, rel=0.01)
            line = next(line for line in markdown.split(f"### Batch {batch}")[1].splitlines() if f"| {method} " in line)
            assert {cell.strip(" *") for cell in line.split("|")} >= {text for text, _ in shown.values()}


def test_numbers_are_those_of_the_sweeps_parquet(sweep: Path, sweep_page: Path) -> None:
    out = sweep_page.parent
    page = Reader((out / HTML_FILE).read_text(encoding="utf-8"))
    points = pd.read_parquet(sweep / "points.parquet")
    for rate in (1.0, 2.0, 4.0):
        own = points[points["arrivals.request_rate"] == rate]
        shown = page.tables[f"Batch 4, request rate {rate:g}"]
        assert len(shown) == 10
        plain = own[(own["selector"] == "plain") & (own["drafting.num_speculative_tokens"] == 2)]
        for row in shown:
            name, *parts = row["method"][0].split()
            kept = own[(own["selector"] == name) & (own["verification"] == parts[-1])]
            if name != "plain":
                kept = kept[kept["drafting.num_speculative_tokens"] == int(parts[0].removeprefix("K="))]
            point = kept.iloc[0]
            assert row["output tokens/s (min..max)"][1] == point["output_throughput"]
            expected = point["output_throughput"] / plain["output_throughput"].max()
            assert row["speed-up over plain (min..max)"][1] == pytest.approx(expected)
            assert row["TTFT p99 (ms)"][1] == point["p99_ttft_ms"]
            assert row["acceptance length"][1] == pytest.approx(point["acceptance_length"])
    assert "Only summaries were kept" in (out / "report.md").read_text()
    runs = pd.read_csv(out / "tables" / "runs.csv")
    assert len(runs) == 3 * (2 + 8)
