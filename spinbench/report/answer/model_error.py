"""How far the simulator may be off: from validations against the runtime, else from a profile's held-out jobs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd

from spinbench.errors import UserError
from spinbench.metrics.tables import RunTables
from spinbench.report.answer.gain import Error, goodput_error
from spinbench.report.validation.verdict import JUDGED, read_validation

THROUGHPUT = "output_throughput"


class ModelError(Protocol):
    """Where the simulator's error is known from."""

    @property
    def source(self) -> str:
        """In a sentence, for the answer."""
        ...

    def log_of(self, tables: RunTables, is_latency: bool) -> float:
        """The error of a run's throughput, or of its latencies: natural logarithm of a factor, >= 0."""
        ...


@dataclass(frozen=True)
class ValidatedError:
    """The largest error of `spinbench validate`, and the largest noise of the real runs that it was held against."""

    throughput: float
    """Relative, >= 0."""
    throughput_noise: float
    latency: float
    latency_noise: float
    folders: tuple[str, ...]

    @classmethod
    def of(cls, folders: Sequence[Path]) -> "ValidatedError":
        """Over all loads of all folders. Raises UserError if one holds no validation, or one without a throughput."""
        table = pd.concat([read_validation(folder) for folder in folders], ignore_index=True)
        throughput = table[table["metric"] == THROUGHPUT]
        latency = table[table["metric"].isin(set(JUDGED) - {THROUGHPUT})]
        if throughput.empty or latency.empty:
            raise UserError(f"{folders[0]}: has no error of {THROUGHPUT} or none of latencies; validate again")
        (error, noise), (latency_error, latency_noise) = (
            [float(rows[name].abs().max()) for name in ("error", "noise")] for rows in (throughput, latency)
        )
        return cls(error, noise, latency_error, latency_noise, tuple(map(str, folders)))

    @property
    def source(self) -> str:
        """In a sentence."""
        return (
            f"validation against the runtime ({', '.join(self.folders)}): throughput off by at most "
            f"{self.throughput:.1%}, real runs apart by at most {self.throughput_noise:.1%}"
        )

    def log_of(self, tables: RunTables, is_latency: bool) -> float:
        """Error and noise added as independent ones are; the same for every run."""
        pair = (self.latency, self.latency_noise) if is_latency else (self.throughput, self.throughput_noise)
        return math.hypot(*map(math.log1p, pair))


@dataclass(frozen=True)
class ProfiledError:
    """The mean absolute error of a profile on jobs that its fit had not seen, kind by kind."""

    mape: Mapping[str, float]
    """By kind of job, relative."""

    @property
    def source(self) -> str:
        """In a sentence."""
        shown = ", ".join(f"{kind} {error:.1%}" for kind, error in sorted(self.mape.items()))
        return (
            f"the profile's error on jobs that its fit had not seen ({shown}), which knows nothing of how fast the "
            "machine is today (give the folder of a spinbench validate as `validations`)"
        )

    def log_of(self, tables: RunTables, is_latency: bool) -> float:
        """As if all jobs of a kind were off by its error to the same side: sum of error x share of the jobs' time."""
        spans = tables.spans
        time_s = (spans["end_s"] - spans["start_s"]).groupby(spans["kind"]).sum()
        total_s = float(time_s.sum())
        if total_s <= 0:
            return 0.0
        worst = max(self.mape.values())
        return math.log1p(sum(float(part) / total_s * self.mape.get(str(kind), worst) for kind, part in time_s.items()))


def error_of(model: ModelError | None, tables: RunTables, slo_ms: Mapping[str, float] | None) -> Error:
    """The error of a run's objective; none where nobody knows how far the simulator is off."""
    if model is None:
        return Error()
    if slo_ms is not None:
        return goodput_error(tables, slo_ms, model.log_of(tables, True))
    log = model.log_of(tables, False)
    return Error(log, log)
