"""Runs that took turns, as ratios within each repeat."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class PairedRatio:
    """One method over a baseline."""

    method: str
    median: float
    """Of the repeats' ratios; NaN where no repeat has both."""
    low: float
    """The smallest."""
    high: float
    repeats: int


def paired_ratios(table: pd.DataFrame, base: str, metric: str = "output_throughput") -> list[PairedRatio]:
    """Every method of a table of runs (`method`, `repeat` and the metric) over `base`, in the table's order."""
    runs = table.pivot(index="repeat", columns="method", values=metric).astype(float)
    found = []
    for name in table["method"].drop_duplicates():
        ratio = (runs[name] / runs[base]).dropna()
        found.append(PairedRatio(str(name), float(ratio.median()), float(ratio.min()), float(ratio.max()), len(ratio)))
    return found
