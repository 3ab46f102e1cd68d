"""Reports whose figures are made but not drawn, for tests that do not look at them: drawing takes most of a report's time."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def undrawn() -> Iterator[None]:
    """Pictures are empty files; the tables beside them and the pages are as ever."""
    from spinbench.report.csv_file import write_csv
    from spinbench.report.figures.plot import Plot

    def save(plot: Plot, folder: Path, prefix: str = "") -> tuple[Path, Path]:
        folder.mkdir(parents=True, exist_ok=True)
        image, table = folder / f"{prefix}{plot.name}.png", folder / f"{prefix}{plot.name}.csv"
        image.write_bytes(b"")
        write_csv(table, plot.data)
        return image, table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plot, "save", save)
        patch.setattr(Plot, "svg", lambda plot: "<svg></svg>")
        yield
