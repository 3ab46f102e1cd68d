"""Links between the pages and into the repository lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.page import PAGES, ROOT

LINKS = [
    (page, link) for page in PAGES for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8"))
]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings: lower case, no punctuation, blanks to hyphens."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "link"), LINKS, ids=lambda value: value.name if isinstance(value, Path) else value)
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists()
    assert target.is_relative_to(ROOT)
    if anchor:
        assert anchor in anchors(target)


def test_every_page_is_linked_from_the_first() -> None:
    linked = {link for page, link in LINKS if page.name == "index.md"}
    assert {page.name for page in PAGES} - {"index.md"} <= linked
    listed = re.findall(r"^  - (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in PAGES)
