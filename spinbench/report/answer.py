"""The answer to "what should I run": one page, the same as JSON, and every candidate as CSV."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from spinbench.report.cells import ABSENT
from spinbench.report.csv_file import write_csv
from spinbench.report.gain import Gain
from spinbench.report.paired import PairedRatio
from spinbench.text_file import write_text

PAGE_FILE = "answer.md"
JSON_FILE = "answer.json"
CANDIDATES_FILE = "candidates.csv"
SHOWN_COMPETITORS = 6
"""Rows of the page's table; the CSV has all."""


@dataclass(frozen=True)
class FinalistRow:
    """One that was simulated on the whole trace."""

    name: str
    role: str
    value: float
    """Of the objective."""
    over_plain: Gain | None
    over_single: Gain | None
    of_chosen: Gain | None
    """What the recommended set-up gains over it."""
    acceptance_length: float


@dataclass(frozen=True)
class CaseRow:
    """One circumstance beside the question's."""

    axis: str
    value: str
    metric: str
    best: str | None
    """None where no finalist could be served."""
    failure: str | None
    """Why one could not, where one could not."""
    ratio: float | None
    """The best over the recommended set-up, at least 1; None where it could not be served there."""
    acceptance_length: float | None
    """Of the recommended set-up."""

    @property
    def changes(self) -> bool:
        """Whether another is better there."""
        return self.ratio is None or self.ratio > 1


@dataclass(frozen=True)
class Compared:
    """A measured ratio beside the predicted one."""

    measured: PairedRatio
    predicted: Gain | None
    """None where the baseline reaches nothing in simulation."""

    @property
    def is_within(self) -> bool | None:
        """Whether the measured median lies between the predicted bounds; None where either is not known."""
        if self.predicted is None or math.isnan(self.measured.median):
            return None
        return self.measured.median in self.predicted


@dataclass(frozen=True)
class MeasuredRow:
    """One that was run on real models."""

    method: str
    value: float
    """Median of the objective; NaN where it could not be served."""
    simulated: float
    over_plain: Compared
    over_single: Compared
    failure: str | None


@dataclass(frozen=True)
class MemoryRow:
    """What a set-up needs."""

    called: str
    replicas: int
    """Servers; what follows is of each."""
    kv_blocks: int
    block_size: int
    target_kv_bytes: int
    drafter_kv_bytes: int
    """Of all drafters that it may ask."""
    target_weights_bytes: int
    drafter_weights_bytes: int
    drafters: tuple[str, ...]
    """Those with weights of their own."""


@dataclass(frozen=True)
class RungRow:
    """One step of the search."""

    requests: int
    set_ups: int
    served: int
    best: str


@dataclass(frozen=True)
class Answer:
    """All that the page says."""

    command: str
    made_by: str
    experiment: str
    """The override file, from the answer's folder."""
    chosen: str
    best_simulated: str
    plain: str
    single: str
    objective: str
    unit: str
    value: float
    over_plain: Gain | None
    over_single: Gain | None
    error_source: str | None
    """None where nobody knows how far the simulator is off."""
    target: str
    trace: str
    num_requests: int
    arrivals: str
    slo: str | None
    device: str
    profile_kind: str
    dtype: str
    acceptance: str
    memory: tuple[MemoryRow, ...]
    finalists: tuple[FinalistRow, ...]
    cases: tuple[CaseRow, ...]
    measured: tuple[MeasuredRow, ...]
    repeats: int
    order_held: bool | None
    not_confirmed: str | None
    """Why it was not confirmed on real models; None if it was."""
    rungs: tuple[RungRow, ...]
    failed: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    @property
    def competitors(self) -> list[FinalistRow]:
        """Those that the recommended set-up cannot be told apart from, the nearest first."""
        return [
            row for row in self.finalists
            if row.name != self.chosen and (row.of_chosen is None or not row.of_chosen.is_told_apart)
        ]  # fmt: skip

    @property
    def chosen_measured(self) -> MeasuredRow | None:
        """The recommended set-up's own real runs."""
        return next((row for row in self.measured if row.method == self.chosen), None)


def write_page(folder: Path, answer: Answer, candidates: Sequence[Mapping[str, Any]]) -> Path:
    """Leave the page, its JSON and the candidates' CSV in `folder`; gives the page's path.

    Nothing in them depends on when they were made. Raises UserError when they cannot be written.
    """
    template = Environment(
        loader=PackageLoader("spinbench.report"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: ABSENT if value is None else value,
    ).get_template("answer.md.j2")  # fmt: skip
    text = template.render(
        answer=answer, competitors=answer.competitors[:SHOWN_COMPETITORS], gain=gain_text, within=within_text,
        mb=lambda count: f"{count / 1e6:,.0f}", ratio=_ratio_text, measured=answer.chosen_measured,
    )  # fmt: skip
    write_csv(folder / CANDIDATES_FILE, pd.DataFrame(candidates))
    content = json.dumps(_finite(asdict(answer)), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / JSON_FILE, content + "\n")
    page = folder / PAGE_FILE
    write_text(page, text)
    return page


def gain_text(one: Gain | None) -> str:
    """A gain and its bounds; a dash where the baseline reaches nothing."""
    if one is None:
        return ABSENT
    high = "unbounded" if math.isinf(one.high) else f"{one.high:.2f}x"
    return f"{one.ratio:.2f}x ({one.low:.2f}x to {high})"


def _ratio_text(one: PairedRatio) -> str:
    if math.isnan(one.median):
        return ABSENT
    return f"{one.median:.2f}x ({one.low:.2f}..{one.high:.2f})"


def within_text(one: Compared) -> str:
    """Whether a measured gain lies between the predicted bounds."""
    return {True: "yes", False: "NO", None: ABSENT}[one.is_within]


def _finite(value: Any) -> Any:
    """For JSON, which knows neither NaN nor infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
