"""A document as a Markdown page, whose figures are files beside it."""

from spinbench.report.pages.cells import markdown_table
from spinbench.report.pages.document import Document, Table
from spinbench.report.pages.template import fill_in


def markdown_page(document: Document) -> str:
    """The page."""
    return fill_in("report.md.j2", document, {"as_markdown": _table}, escapes=False).rstrip("\n") + "\n"


def _table(table: Table) -> str:
    return markdown_table(table.headers, table.rows, table.is_text)
