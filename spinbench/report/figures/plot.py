"""A figure with everything that belongs to it, and how it is drawn and stored the same everywhere."""

import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from spinbench.report.csv_file import write_csv
from spinbench.report.figures.colours import GRID, INK, PAPER, SPAN_KINDS

WIDTH_IN = 10.0
DOTS_PER_INCH = 140
TITLE_CHARACTERS = 72
LEGEND_COLUMNS = 5
COORDINATES = re.compile(r'(?<= d=")[^"]+|(?<= x=")[^"]+|(?<= y=")[^"]+|(?<=translate\()[^)]+')
DECIMALS = re.compile(r"(\.\d\d)\d+")
ASIDES = re.compile(r"\s*(?:<!--.*?-->|<metadata>.*?</metadata>)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Plot:
    """A drawn figure, the numbers in it, and the words around it."""

    name: str
    """File name without ending."""
    figure: Figure
    data: pd.DataFrame
    title: str
    """What the figure shows, as a finding, in one line."""
    alt: str
    """What is drawn, without the finding."""
    caption: str

    def save(self, folder: Path, prefix: str = "") -> tuple[Path, Path]:
        """Writes `<prefix><name>.png` and `.csv`, with the same bytes for the same numbers, and gives their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        image, table = folder / f"{prefix}{self.name}.png", folder / f"{prefix}{self.name}.csv"
        with plot_style():
            self._lay_out()
            self.figure.savefig(image, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        write_csv(table, self.data)
        return image, table

    def svg(self) -> str:
        """The figure as an `<svg>` element without title and background, the same bytes for the same numbers.

        Text is drawn as outlines. Coordinates are rounded to hundredths of a point, which halves the size.
        """
        buffer = io.StringIO()
        with plot_style():
            self._lay_out()
            top_pt = self._above_pt()
            self.figure.suptitle("")
            self.figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
            set_title(self.figure, self.title)
        width_pt, height_pt = (72 * inches for inches in self.figure.get_size_inches())
        text = buffer.getvalue()
        _, rest = text[text.index("<svg") :].split(">", 1)
        box = f'viewBox="0 {top_pt:.2f} {width_pt:.2f} {height_pt - top_pt:.2f}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box}>'
        return head + ASIDES.sub("", COORDINATES.sub(lambda path: DECIMALS.sub(r"\1", path[0]), rest))

    def _lay_out(self) -> None:
        """Places everything once, as that takes longer than drawing."""
        engine = self.figure.get_layout_engine()
        if engine is not None:
            engine.execute(self.figure)
            self.figure.set_layout_engine(None)

    def _above_pt(self) -> float:
        """The points above what is under the title."""
        inside = [
            child for child in self.figure.get_children() if child not in self.figure.texts and child.get_visible()
        ]
        inside = [child for child in inside if child is not self.figure.patch]
        renderer = FigureCanvasAgg(self.figure).get_renderer()
        boxes = [box for child in inside if (box := child.get_tightbbox(renderer)) is not None]
        top_px = max((box.y1 for box in boxes), default=self.figure.bbox.height)
        return max(0.0, (self.figure.bbox.height - top_px) / self.figure.dpi * 72 - 4)


@contextmanager
def plot_style() -> Iterator[None]:
    """The look of all figures, without touching matplotlib's global settings for anybody else."""
    look: dict[Any, Any] = {
        **sns.axes_style("whitegrid"),
        **sns.plotting_context("notebook", font_scale=1.1),
        "axes.titlesize": 14,
        "figure.titlesize": 15,
        "figure.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "hatch.linewidth": 1.2,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "axes.facecolor": PAPER,
        "axes.edgecolor": GRID,
        "grid.color": GRID,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK),
        "svg.hashsalt": "spinbench",
        "svg.fonttype": "path",
    }
    with mpl.rc_context(look):
        yield


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """An empty figure that draws without a screen and without matplotlib's global list of figures."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def set_title(figure: Figure, title: str) -> None:
    """Puts the finding above the figure, broken into lines that fit."""
    figure.suptitle(textwrap.fill(title, TITLE_CHARACTERS))


def legend_below(figure: Figure, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """One legend for all panels, under them, in as many columns as fit the width, at most `LEGEND_COLUMNS`."""
    for columns in range(min(len(names), LEGEND_COLUMNS), 0, -1):
        legend = figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=12)
        if columns == 1 or legend.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width <= figure.bbox.width:
            return
        legend.remove()


def legend_of_kinds(figure: Figure, present: Iterable[str]) -> None:
    """The legend of a timeline: the colours of those kinds of jobs that are `present`."""
    seen = set(present)
    kinds = [kind for kind in SPAN_KINDS if kind in seen]
    patches = [Patch(color=SPAN_KINDS[kind]) for kind in kinds]
    legend_below(figure, patches, [kind.replace("_", "-") for kind in kinds])


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """A row for each name, the first on top, with no lines between them."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def write_beside(axes: Axes, x: float, y: float, text: str) -> None:
    """A value to the right of its bar, kept readable over grid lines."""
    patch = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}
    axes.annotate(
        text, (x, y), xytext=(7, 0), textcoords="offset points", va="center", fontsize=12, bbox=patch, zorder=3
    )
