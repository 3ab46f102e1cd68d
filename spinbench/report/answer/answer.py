"""The answer to "what should I run": all that its page says."""

import math
from dataclasses import dataclass

from spinbench.report.answer.gain import Gain
from spinbench.report.comparison.paired import PairedRatio


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
    """None where none could be served."""
    num_set_ups: int
    """Those that lead were simulated there: so many."""
    num_failed: int
    """Of those, could not be served."""
    failure: str | None
    """Why one of them could not: the recommended set-up itself where it is among them."""
    ratio: float | None
    """The best over the recommended set-up, at least 1; None where it could not be served there."""
    acceptance_length: float | None
    """Of the recommended set-up."""

    @property
    def where(self) -> str:
        """The circumstance in words."""
        return f"{self.axis} {self.value}"

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
