"""A document as one HTML file that needs nothing else: no network, no server, no other file."""

import re
from importlib.resources import files

from markupsafe import Markup, escape

from spinbench.report.figures.colours import IN_THE_DARK
from spinbench.report.pages.cells import Cell
from spinbench.report.pages.document import Document, Picture
from spinbench.report.pages.template import fill_in

TEMPLATES = files("spinbench.report") / "templates"
INLINE = (
    (re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)"), r'<a href="\2">\1</a>'),
    (re.compile(r'(<a href="[^"]*\breport)\.md"'), r'\1.html"'),  # another page of ours has its like beside it
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*(.+?)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"(?<![\w*])\*([^*\s](?:[^*]*[^*\s])?)\*(?![\w*])"), r"<em>\1</em>"),
)
"""What texts of a document may have of Markdown, and what it becomes."""


def html_page(document: Document) -> str:
    """The page. Figures are in it as SVG, in colours that follow the reader's scheme."""
    filters = {"inline": inline, "attributes": _attributes, "drawing": drawing}
    style, script = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("report.css", "report.js"))
    return fill_in("report.html.j2", document, filters, escapes=True, style=style, script=script)


def inline(text: str) -> Markup:
    """A text of a document as HTML, everything else in it escaped."""
    html = str(escape(text))
    for pattern, replacement in INLINE:
        html = pattern.sub(replacement, html)
    return Markup(html)


def drawing(picture: Picture) -> Markup:
    """The figure as an inline `<svg>`.

    Its identifiers begin with the figure's name, as those of all figures share a page, and colours that only paper
    makes legible are `light-dark` pairs.
    """
    svg = picture.plot.svg()
    name = re.sub(r"[^\w-]", "-", picture.name)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for paper, dark in IN_THE_DARK.items():
        svg = svg.replace(f": {paper}", f": light-dark({paper}, {dark})")
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(picture.alt)}" ', 1))


def _attributes(cell: Cell, is_text: bool) -> Markup:
    """Class and number of a table's cell."""
    classes = " ".join(name for name, wanted in (("number", not is_text), ("best", cell.is_best)) if wanted)
    number = "" if cell.number is None else f' data-n="{cell.number!r}"'
    return Markup((f' class="{classes}"' if classes else "") + number)
