"""The section of engine=simulation, and what of it takes a profile to check."""

from spinbench.calibration.profile.profile_file import Profile
from spinbench.cli.config.replay import ReplayConfig, SimulationSection
from spinbench.control.costs.overlap import Overlap
from spinbench.control.placement import Placement
from spinbench.errors import UserError


def simulation_section(config: ReplayConfig) -> SimulationSection:
    """The section of engine=simulation. Raises UserError where another engine is configured."""
    if not isinstance(config.engine, SimulationSection):
        raise UserError(f"engine.kind is {config.engine.kind}; this needs engine=simulation")
    return config.engine


def overlap_of(config: ReplayConfig, profile: Profile) -> Overlap | None:
    """How lanes slow each other; None where each is a device of its own.

    Raises UserError where they share one, and the profile does not tell how.
    """
    if simulation_section(config).lanes == "devices":
        return None
    if config.replicas > 1:
        raise UserError(
            f"engine.lanes is streams and replicas {config.replicas}; lanes of one device are of one replica"
        )
    num_lanes = Placement(config.placement.kind).num_devices(len(config.models.drafters))
    if num_lanes != 2:
        raise UserError(
            f"engine.lanes is streams, which are two, and placement={config.placement.kind} with "
            f"{len(config.models.drafters)} drafters makes {num_lanes}; set placement=drafters_together, or "
            "engine.lanes=devices"
        )
    found = profile.meta.device.overlap
    if found is None:
        raise UserError(
            f"{profile.source}: says nothing of how two lanes of its device slow each other (device.overlap), which "
            "engine.lanes=streams asks for; profile this machine anew with a drafter that has a network"
        )
    return found.factors
