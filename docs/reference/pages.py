"""Which pages are made, and by what."""

from collections.abc import Callable
from pathlib import Path

from docs.reference.columns_page import columns_page
from docs.reference.config_page import config_page
from docs.reference.metrics_page import metrics_page

FOLDER = Path(__file__).parent.parent
PAGES: dict[str, Callable[[], str]] = {
    "columns.md": columns_page,
    "config.md": config_page,
    "metrics.md": metrics_page,
}
