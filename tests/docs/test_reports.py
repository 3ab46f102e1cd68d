"""reports/README.md lists all that is in reports/, and nothing else; what pages there name is there."""

import re
from pathlib import Path

import pytest

from spinbench.cli.main import COMMANDS
from tests.docs.page import ROOT

REPORTS = ROOT / "reports"
INDEX = REPORTS / "README.md"
OWN_PAGES = ("README.md", "report.md")
"""Pages that speak for all other files of their folder."""
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def links(page: Path) -> list[Path]:
    return [(page.parent / link).resolve() for link in LINK.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", sorted(REPORTS.rglob("*.md")), ids=lambda page: str(page.relative_to(REPORTS)))
def test_a_page_names_what_is_there(page: Path) -> None:
    assert [path for path in links(page) if not path.exists()] == []
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"python -m (benchmarks\.\w+)", text):
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name
    assert set(re.findall(r"`spinbench (\w+)", text)) <= set(COMMANDS)


def test_every_report_has_a_row() -> None:
    rows = [line for line in INDEX.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    assert [row for row in rows if not LINK.search(row.split("|")[1])] == []
    listed = set(links(INDEX))
    folders = [path.parent for path in listed if path.name in OWN_PAGES]
    files = [path for path in sorted(REPORTS.rglob("*")) if path.is_file() and path != INDEX]
    missing = [path for path in files if path not in listed and not any(map(path.is_relative_to, folders))]
    assert missing == [], "no row of reports/README.md leads there"
