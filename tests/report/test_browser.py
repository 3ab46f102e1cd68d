"""The HTML report as a reader sees it: opened in headless Chromium, as wide as a laptop and as a phone, light and dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.browser import Browser, Scheme, find_chromium
from spinbench.report.page import HTML_FILE
from tests.covering import matrix

CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)"),
]
PAGES = ("runs", "sweep")
DARK_BELOW, LIGHT_ABOVE = 60, 200
BACKGROUND = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
WIDER_THAN_ITS_PLACE = """
  [...document.querySelectorAll("main > *, main td, main p, header > *, nav a")]
    .filter((one) => one.getBoundingClientRect().width > 0)
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
    .filter((one) => !one.closest(".table, .figure, pre"))
    .map((one) => one.outerHTML.slice(0, 80))
"""
FIGURES = """
  [...document.querySelectorAll(".figure")].map((box) => {
    const svg = box.querySelector("svg");
    const text = svg.querySelector("[id*=xtick] use, [id*=ytick] use");
    return {
      width: svg.getBoundingClientRect().width, box: box.clientWidth, scrolls: box.scrollWidth > box.clientWidth,
      glyph: text ? text.getBoundingClientRect().height : 0,
    };
  })
"""


@pytest.fixture(scope="module")
def pages(page: Path, sweep_page: Path) -> dict[str, Path]:
    return {name: one.with_name(HTML_FILE) for name, one in zip(PAGES, (page, sweep_page), strict=True)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with Browser(CHROMIUM) as opened:
        yield opened


@matrix({"name": PAGES, "width": (1280, 390), "scheme": ("light", "dark")})
def test_it_opens_without_overflow_or_error(
    browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: Scheme
) -> None:
    page = browser.open(pages[name], width, scheme)
    assert page.errors == []
    assert page.requests == []
    assert browser.value("document.documentElement.scrollWidth") == browser.value("innerWidth") == width
    assert browser.value(WIDER_THAN_ITS_PLACE) == []
    background = browser.value(BACKGROUND)
    assert max(background) < DARK_BELOW if scheme == "dark" else min(background) > LIGHT_ABOVE


@pytest.mark.parametrize("width", [1280, 390])
def test_figures_are_large_enough_to_read(browser: Browser, pages: dict[str, Path], width: int) -> None:
    browser.open(pages["runs"], width, "light")
    figures = browser.value(FIGURES)
    assert len(figures) >= 7
    for figure in figures:
        assert figure["width"] >= 600
        assert figure["scrolls"] == (width == 390)
        assert figure["glyph"] == 0 or figure["glyph"] > 6  # a digit of an axis, in pixels


def test_a_table_sorts_by_the_column_that_is_pressed(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["runs"], 1280, "light")
    table = "document.querySelectorAll('main table')[1]"
    column = f"[...{table}.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.n))"
    before = browser.value(column)
    press = f"{table}.tHead.rows[0].cells[1].querySelector('button').click()"
    browser.value(press)
    assert browser.value(column) == sorted(before, reverse=True)
    assert browser.value(f"{table}.tHead.rows[0].cells[1].getAttribute('aria-sort')") == "descending"
    browser.value(press)
    assert browser.value(column) == sorted(before)
    browser.value(press.replace("cells[1]", "cells[0]"))
    names = browser.value(f"[...{table}.tBodies[0].rows].map((row) => row.cells[0].textContent)")
    assert names == sorted(names)


def test_the_switch_changes_page_and_figures(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["runs"], 1280, "light")
    ink = "getComputedStyle(document.querySelector('.figure svg [id*=text_] g[style*=fill]')).fill"
    light = browser.value(BACKGROUND), browser.value(ink)
    browser.value("document.getElementById('scheme').click()")
    dark = browser.value(BACKGROUND), browser.value(ink)
    assert max(dark[0]) < DARK_BELOW < LIGHT_ABOVE < min(light[0])
    assert light[1] != dark[1]
    assert browser.value("document.getElementById('scheme').textContent") == "Light"
    browser.value("document.getElementById('scheme').click()")
    assert (browser.value(BACKGROUND), browser.value(ink)) == light


def test_headers_and_contents_stay_in_sight(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["runs"], 1280, "light", height=500)
    browser.value("scrollTo(0, 2000)")
    assert browser.value("scrollY") == 2000
    assert browser.value("document.querySelector('header').getBoundingClientRect().top") == 0
    assert browser.value("document.querySelector('nav a').getBoundingClientRect().top") > 0
    browser.open(pages["runs"], 390, "light", height=700)
    assert browser.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.value("document.querySelector('#menu summary').click()")
    assert browser.value("document.querySelector('#menu a').getBoundingClientRect().height") > 0
    box = "document.querySelector('.table')"
    browser.value(f"{box}.style.maxHeight = '120px'; {box}.scrollTo(60, 80)")
    offset = f"((a, b) => [a.left - b.left, a.top - b.top])({box}.querySelector('th').getBoundingClientRect(), "
    assert browser.value(f"{offset}{box}.getBoundingClientRect())") == pytest.approx([1, 1], abs=1)
