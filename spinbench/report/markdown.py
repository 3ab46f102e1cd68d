"""A document as a Markdown page, whose figures are files beside it."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from spinbench.report.cells import markdown_table
from spinbench.report.document import Document, Table


def markdown_page(document: Document) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("spinbench.report"),
        autoescape=False,  # the page is Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["as_markdown"] = _table
    text = environment.get_template("report.md.j2").render(document=document)
    return text.rstrip("\n") + "\n"


def _table(table: Table) -> str:
    return markdown_table(table.headers, table.rows, table.is_text)
