"""The files beside a page: a CSV for every table and figure, and the figures as pictures."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spinbench.report.csv_file import write_csv
from spinbench.report.figures.plot import Plot
from spinbench.report.pages.cells import Cell, frame_cells, text_columns
from spinbench.report.pages.document import Picture, Table


@dataclass(frozen=True)
class PageFiles:
    """Puts files below the page's folder, and gives what the page shows of them."""

    out: Path
    prefix: str = ""
    """Of the names of all files."""

    def csv(self, name: str, frame: pd.DataFrame) -> str:
        """Writes a table; gives its path relative to the page. Raises UserError."""
        path = self.out / "tables" / f"{self.prefix}{name}.csv"
        write_csv(path, frame)
        return path.relative_to(self.out).as_posix()

    def table(
        self,
        name: str,
        frame: pd.DataFrame,
        note: str,
        headers: Mapping[str, str] | None = None,
        rows: int | None = None,
        digits: int = 2,
        counts: Collection[str] = (),
    ) -> Table:
        """A table with `digits` behind the point; the page shows the first `rows`, columns under other `headers`.

        The columns `counts` are shown as `frame_cells` shows them.
        """
        shown = frame if rows is None else frame.head(rows)
        names = tuple((headers or {}).get(str(name), str(name).replace("_", " ")) for name in frame.columns)
        return self.cells(name, names, frame_cells(shown, digits, counts), text_columns(frame), frame, note)

    def cells(
        self,
        name: str,
        headers: tuple[str, ...],
        rows: list[list[Cell]],
        is_text: Sequence[bool],
        frame: pd.DataFrame,
        note: str,
    ) -> Table:
        """A table whose cells are made, with its unrounded numbers in a frame."""
        return Table(headers, rows, tuple(is_text), note, self.csv(name, frame))

    def picture(self, plot: Plot) -> Picture:
        """A figure."""
        image, data = plot.save(self.out / "figures", self.prefix)
        return Picture(plot, image.relative_to(self.out).as_posix(), data.relative_to(self.out).as_posix())
