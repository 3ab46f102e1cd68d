"""What a report says, before it is a page: parts with headings, and blocks of text, tables and figures in them.

Markdown and HTML are made from the same document, so neither can say what the other does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from spinbench.report.pages.cells import Cell

if TYPE_CHECKING:  # a page without figures need not wait for what draws them
    from spinbench.report.figures.plot import Plot


@dataclass(frozen=True)
class Text:
    """A paragraph. As in all texts here, `**bold**`, `` `code` `` and `[text](link)` mean what they do in Markdown."""

    kind: ClassVar = "text"
    text: str


@dataclass(frozen=True)
class Items:
    """A list of short texts."""

    kind: ClassVar = "items"
    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table whose rows may be sorted by any column, and where its unrounded numbers lie."""

    kind: ClassVar = "table"
    headers: tuple[str, ...]
    rows: list[list[Cell]]
    is_text: tuple[bool, ...]
    """By column; others hold numbers, and are set to the right."""
    note: str
    csv: str | None
    """Relative to the page."""


@dataclass(frozen=True)
class Picture:
    """A figure; `png` and `csv` are relative to the page."""

    kind: ClassVar = "picture"
    plot: "Plot"
    png: str
    csv: str

    @property
    def name(self) -> str:
        """Of the file, which no other figure of the page has."""
        return self.png.rsplit("/", 1)[-1].removesuffix(".png")

    @property
    def alt(self) -> str:
        """What is drawn, and what that shows."""
        return f"{self.plot.alt} {self.plot.title}."


@dataclass(frozen=True)
class Code:
    """Text as it is, in a fixed-width font; `summary` is the line under which it is folded away, where it is long."""

    kind: ClassVar = "code"
    text: str
    language: str
    summary: str = ""

    @property
    def fence(self) -> str:
        """A Markdown fence longer than any in the text."""
        fence = "```"
        while fence in self.text:
            fence += "`"
        return fence


Block = Text | Items | Table | Picture | Code


@dataclass(frozen=True)
class Part:
    """Blocks under a heading."""

    heading: str
    """May be empty: then the blocks follow what is before them."""
    blocks: tuple[Block, ...]
    level: int = 3
    """2 or 3, as in HTML."""
    short: str = ""
    """For the table of contents and, in HTML, above a figure that has the heading in it; the heading where empty."""

    @property
    def name(self) -> str:
        """What the table of contents calls it."""
        return self.short or self.heading


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    parts: tuple[Part, ...]
