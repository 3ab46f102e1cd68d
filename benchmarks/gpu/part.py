"""A part of the measurements: rows that are kept as they come, within the time that it may take."""

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spinbench.runtime.out_of_memory import TooLittleMemory, too_little_memory

Row = dict[str, Any]


class NotMeasured(Exception):
    """Why a part has no further rows."""


class Allowance:
    """The time that is left."""

    def __init__(self, seconds: float) -> None:
        self._end_s = time.perf_counter() + seconds

    @property
    def left_s(self) -> float:
        """Seconds, 0 once it is over."""
        return max(0.0, self._end_s - time.perf_counter())

    def at_most(self, seconds: float) -> "Allowance":
        """A part of it."""
        return Allowance(min(seconds, self.left_s))


@dataclass(frozen=True, eq=False)
class Part:
    """A part's table as far as it was measured, and why there is no more."""

    name: str
    table: pd.DataFrame | None
    reason: str | None
    took_s: float
    is_broken: bool = False
    """Ended by an error that nobody expected."""


def measured(name: str, rows: Callable[[Allowance], Iterator[Row]], allowance: Allowance, csv: Path) -> Part:
    """The part's rows up to its end, its first error or the end of its time; `csv` has them from the first one on."""
    start_s, found, reason, is_broken = time.perf_counter(), [], None, False
    try:
        with too_little_memory(name, "nothing smaller is tried"):
            for row in rows(allowance):
                found.append(row)
                pd.DataFrame(found).to_csv(csv, index=False)
                if not allowance.left_s:
                    reason = "its time is over: what is there is what was measured until then"
                    break
    except (NotMeasured, TooLittleMemory) as why:
        reason = str(why)
    except Exception as error:  # one part that fails must not take the others along: it says why
        traceback.print_exc()
        reason, is_broken = f"{type(error).__name__}: {error}".splitlines()[0], True
    table = pd.DataFrame(found) if found else None
    return Part(name, table, reason, time.perf_counter() - start_s, is_broken)
