"""What `spinbench capacity` is told, and the replay that it makes of that at a rate."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from spinbench.cli.config.replay import Part, ServingConfig, SimulationSection
from spinbench.cli.config.section import Positive
from spinbench.cli.hydra_app.override_value import key_of
from spinbench.metrics.store import Kept

OWN_KEYS = ("goal", "tolerance", "repeats", "burstiness", "curve")
"""Keys that a replay does not have."""


class CapacityConfig(ServingConfig):
    """Everything that `spinbench capacity` is told."""

    engine: SimulationSection
    replicas: Positive
    router: Part
    goal: Annotated[float, Field(gt=0, le=1)]
    tolerance: Annotated[float, Field(gt=0, lt=1)]
    repeats: Positive
    burstiness: Annotated[float, Field(gt=0)]
    curve: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    keep: Kept


def replay_config(plain: Mapping[str, Any], rate_rps: float, draw: int) -> dict[str, Any]:
    """The plain config of a replay at a request rate, `inf` = all at once; `draw` numbers the draws of times."""
    kept = {key: value for key, value in plain.items() if key not in (*OWN_KEYS, "keep")}
    return {**kept, "arrivals": _arrivals(plain, rate_rps, draw)}


def replay_overrides(plain: Mapping[str, Any], given: tuple[str, ...], rate_rps: float, draw: int) -> tuple[str, ...]:
    """The overrides with which `spinbench replay` gives that run again, from those of the command."""
    own = [one for one in given if key_of(one) not in (*OWN_KEYS, "keep")]
    if not any(one.startswith("engine=") for one in own):
        own.insert(0, "engine=simulation")
    arrivals = {key: value for key, value in _arrivals(plain, rate_rps, draw).items() if key != "kind"}
    choice = "all_at_once" if math.isinf(rate_rps) else "poisson"
    return (*own, f"arrivals={choice}", *(f"arrivals.{key}={value}" for key, value in arrivals.items()))


def _arrivals(plain: Mapping[str, Any], rate_rps: float, draw: int) -> dict[str, Any]:
    if math.isinf(rate_rps):
        return {"kind": "all_at_once"}
    return {
        "kind": "gamma",
        "request_rate": rate_rps,
        "burstiness": plain["burstiness"],
        "seed": plain["seed"] + draw,
    }
