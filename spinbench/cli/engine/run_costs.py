"""What selectors on the runtime know of costs: a profile that the config names, if it is of this run."""

from collections.abc import Mapping

from spinbench.calibration.fitting.fit import fit_cost_model
from spinbench.calibration.profile.meta import check_fits
from spinbench.calibration.profile.profile_file import read_profile
from spinbench.cli.config.replay import ReplayConfig, RuntimeSection
from spinbench.cli.engine.overlap_warning import overlap_warnings
from spinbench.cli.locations import find_trace
from spinbench.control.costs.cost_model import CostModel
from spinbench.control.drafting.drafter import DrafterInfo


def run_costs(
    config: ReplayConfig,
    engine: RuntimeSection,
    infos: tuple[DrafterInfo, ...],
    sha256: Mapping[str, str] | None = None,
) -> CostModel | None:
    """The cost model of `engine.profile`; None without one: then costs are learned from the run's own times.

    No profile is taken by itself, not even a shipped one of these very models: it would be of another machine.
    `sha256` has digests of weights by model name, where they are known. Raises UserError when the profile is of other
    models or another dtype.
    """
    if engine.profile is None:
        return None
    profile = read_profile(find_trace(engine.profile))
    check_fits(
        profile.meta, profile.source, dtype=engine.dtype, target=config.models.target, drafters=infos,
        sha256=sha256 or {},
    )  # fmt: skip
    return fit_cost_model(profile, [info.name for info in infos])


def cost_warnings(config: ReplayConfig, engine: RuntimeSection) -> tuple[str, ...]:
    """Where what `engine.profile` says is not of this run's lanes. Raises UserError as `read_profile`."""
    if engine.profile is None:
        return ()
    return overlap_warnings(config, read_profile(find_trace(engine.profile)).meta, engine.profile)
