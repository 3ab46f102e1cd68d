"""Tables and anchors of Markdown."""

from collections.abc import Iterable, Sequence

MADE = "<!-- Made by `python -m docs.reference`; change the code or conf/, not this page. -->"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; pipes and line breaks in cells are made harmless."""
    lines = [header, ["---"] * len(header), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def code(text: str) -> str:
    """In code type; empty stays empty."""
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
