"""What simulations read, each file once however many points name it, and what follows from it."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from spinbench.calibration.fit import fit_cost_model
from spinbench.calibration.profile_file import Profile, profile_sha256, read_profile
from spinbench.cli.decisions import read_trace
from spinbench.cli.locations import find_trace
from spinbench.cli.schema import ReplayConfig, SimulationSection
from spinbench.control.cost_model import CostModel
from spinbench.workload.acceptance.law_file import read_law
from spinbench.workload.acceptance.synthetic import SyntheticLaw
from spinbench.workload.acceptance.table import AcceptanceTable
from spinbench.workload.acceptance.table_file import content_sha256, read_table
from spinbench.workload.request import Trace

MAX_KEPT = 16
"""Of each kind: a sweep over more files than that reads those anew that it named longest ago."""

Kind = TypeVar("Kind")


class _Shelf(Generic[Kind]):
    """The last things that were made, by what they were made from."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Kind] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Kind]) -> Kind:
        """What is kept for `key`, made if need be."""
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


class SimulationFiles:
    """Reads and keeps. Files that change meanwhile are not read again."""

    def __init__(self) -> None:
        self._traces: _Shelf[Trace] = _Shelf()
        self._profiles: _Shelf[tuple[Profile, str]] = _Shelf()
        self._tables: _Shelf[tuple[AcceptanceTable, str]] = _Shelf()
        self._laws: _Shelf[SyntheticLaw] = _Shelf()
        self._costs: _Shelf[CostModel] = _Shelf()

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
