"""What simulations read, each file once however many points name it, and what follows from it."""

from dataclasses import replace
from pathlib import Path

from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.profile.profile_file import Profile, profile_sha256, read_profile
from spinbench.cli.config.replay import ReplayConfig, SimulationSection
from spinbench.cli.engine.decisions import read_trace
from spinbench.cli.locations import find_trace
from spinbench.control.costs.cost_model import CostModel
from spinbench.recently_used import RecentlyUsed
from spinbench.workload.acceptance.law_file import read_law
from spinbench.workload.acceptance.synthetic import SyntheticLaw
from spinbench.workload.acceptance.table import AcceptanceTable
from spinbench.workload.acceptance.table_file import content_sha256, read_table
from spinbench.workload.request import Trace

MAX_KEPT = 16
"""Of each kind: a sweep over more files than that reads those anew that it named longest ago."""


class SimulationFiles:
    """Reads and keeps. Files that change meanwhile are not read again."""

    def __init__(self) -> None:
        self._traces: RecentlyUsed[Trace] = RecentlyUsed(MAX_KEPT)
        self._profiles: RecentlyUsed[tuple[Profile, str]] = RecentlyUsed(MAX_KEPT)
        self._tables: RecentlyUsed[tuple[AcceptanceTable, str]] = RecentlyUsed(MAX_KEPT)
        self._laws: RecentlyUsed[SyntheticLaw] = RecentlyUsed(MAX_KEPT)
        self._costs: RecentlyUsed[CostModel] = RecentlyUsed(MAX_KEPT)

    def trace(self, config: ReplayConfig) -> Trace:
        """The part of the trace that the config asks for. Raises UserError as `read_trace`."""
        return self._traces.get(repr(config.trace), lambda: read_trace(config, None))

    def profile(self, engine: SimulationSection) -> tuple[Profile, str]:
        """The profile and its digest. Raises UserError as `read_profile`."""
        folder = find_trace(engine.profile)
        return self._profiles.get(folder, lambda: (read_profile(folder), profile_sha256(folder)))

    def table(self, engine: SimulationSection) -> tuple[AcceptanceTable, str]:
        """The acceptance table and the digest of its content. Raises UserError as `read_table`."""

        def read(folder: Path) -> tuple[AcceptanceTable, str]:
            table = read_table(folder)
            return table, content_sha256(table)

        folder = find_trace(engine.source)
        return self._tables.get(folder, lambda: read(folder))

    def law(self, engine: SimulationSection) -> SyntheticLaw:
        """The synthetic law. Raises UserError as `read_law`."""
        path = find_trace(engine.source)
        return self._laws.get(path, lambda: read_law(path))

    def costs(self, engine: SimulationSection, drafters: tuple[str, ...]) -> CostModel:
        """A cost model with nothing to warn of yet. Raises UserError as `fit_cost_model`."""
        profile, _ = self.profile(engine)
        fitted = self._costs.get((profile.source, drafters), lambda: fit_cost_model(profile, drafters))
        return replace(fitted)  # its warnings are of one run
