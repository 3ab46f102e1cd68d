"""What metrics are computed from: a run's tables, and what several metrics share."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from spinbench.metrics.acceptance import PositionRates, position_rates
from spinbench.metrics.latency import LatencySamples, completed_requests, latency_samples
from spinbench.metrics.switching import switch_stalls_ms
from spinbench.metrics.tables import RunTables


@dataclass(frozen=True)
class Measured:
    """The tables of a run and what several metrics share, computed once."""

    tables: RunTables
    completed: pd.DataFrame
    latencies: LatencySamples
    positions: PositionRates
    drafts: pd.DataFrame
    """Tokens drafted and accepted of the (round, request) rows in which at least one was drafted."""
    drafted_ahead: pd.DataFrame
    """The jobs that drafted ahead."""
    switch_stalls_ms: np.ndarray
    slo_ms: Mapping[str, float] | None

    @cached_property
    def by_replica(self) -> "tuple[Measured, ...]":
        """The same of each replica, by its number."""
        return tuple(measure(own, self.slo_ms) for own in self.tables.by_replica)


def measure(tables: RunTables, slo_ms: Mapping[str, float] | None) -> Measured:
    """All of it, of a run's tables; `slo_ms` from `parse_slo`, None without an SLO."""
    return Measured(
        tables=tables,
        completed=completed_requests(tables.requests),
        latencies=latency_samples(tables),
        positions=position_rates(tables.rounds),
        drafts=tables.rounds.loc[tables.rounds["drafted"] > 0, ["drafted", "accepted"]],
        drafted_ahead=tables.spans[tables.spans["kind"] == "draft_ahead"],
        switch_stalls_ms=switch_stalls_ms(tables),
        slo_ms=slo_ms,
    )
