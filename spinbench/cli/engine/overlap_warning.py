"""Whether what a profile says of two lanes of its device holds for a run's lanes."""

from spinbench.calibration.profile.meta import ProfileMeta
from spinbench.cli.config.replay import ReplayConfig
from spinbench.control.placement import Placement


def overlap_warnings(config: ReplayConfig, meta: ProfileMeta, source: str) -> tuple[str, ...]:
    """A line where the lanes of a CPU have the cores in other shares than while they were measured."""
    found, asked = meta.device.overlap, config.placement.drafter_threads
    lanes = Placement(config.placement.kind).num_devices(len(config.models.drafters))
    if lanes != 2 or found is None or found.drafter_threads in (None, asked):
        return ()
    return (
        f"{source}: how two lanes slow each other was measured with placement.drafter_threads="
        f"{found.drafter_threads}, and here it is {asked}: jobs on them are taken to be as slow as in that split",
    )
