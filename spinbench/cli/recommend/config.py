"""What `spinbench recommend` must be told: every key with its type and range. Defaults and meanings are in conf/."""

from typing import Annotated, Literal

from pydantic import Field

from spinbench.cli.config.replay import RuntimeSection, ServedConfig, SimulationSection
from spinbench.cli.config.section import Positive, Section
from spinbench.cli.config.sweep import LauncherSection
from spinbench.cli.recommend.search_space import SearchSection
from spinbench.workload.arrivals import ArrivalPattern

Confirm = Literal["auto", "never", "always"]
Load = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class HalvingSection(Section):
    """How many set-ups are looked at how closely."""

    factor: Annotated[int, Field(ge=2)]
    finalists: Annotated[int, Field(ge=3)]
    smallest_requests: Positive


class WhatIfSection(Section):
    """What the finalists are simulated on beside what was asked."""

    max_num_seqs: list[Positive]
    loads: list[Load]
    categories: bool


class RecommendConfig(ServedConfig):
    """Everything that `spinbench recommend` is told: a replay's own words, without who drafts how much."""

    arrivals: ArrivalPattern
    search: SearchSection
    halving: HalvingSection
    what_if: WhatIfSection
    validations: list[Annotated[str, Field(min_length=1)]]
    confirm: Confirm
    repeats: Positive
    launcher: LauncherSection
    simulation: SimulationSection
    runtime: RuntimeSection


OWN_KEYS = ("search", "halving", "what_if", "validations", "confirm", "repeats", "launcher", "simulation", "runtime")
"""Keys that a replay does not have, or has in another place."""
