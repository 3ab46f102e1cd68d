"""In what a simulated run is known to differ from a real one."""

from spinbench.calibration.profile.meta import ProfileMeta
from spinbench.cli.config.replay import ReplayConfig
from spinbench.cli.config.simulation import simulation_section
from spinbench.cli.engine.overlap_warning import overlap_warnings
from spinbench.control.loop_setting import LoopSetting
from spinbench.control.selector.protocol import LearnsByContext
from spinbench.workload.acceptance.streams import AcceptanceStreams


def simulation_warnings(
    config: ReplayConfig, meta: ProfileMeta, setting: LoopSetting, streams: AcceptanceStreams
) -> tuple[str, ...]:
    """A line each, for a run with this profile and acceptance."""
    source = simulation_section(config).source
    return (
        *_lane_warnings(config, meta),
        *_merger_warnings(setting),
        *_agreement_warnings(setting, streams, source),
        *_branch_warnings(setting, streams, source),
    )


def _lane_warnings(config: ReplayConfig, meta: ProfileMeta) -> tuple[str, ...]:
    engine = simulation_section(config)
    if engine.lanes == "streams":
        return overlap_warnings(config, meta, engine.profile)
    if config.placement.kind == "shared" or meta.kind != "measured":
        return ()
    return (
        "jobs were profiled with the machine to themselves, and here they overlap as on devices like it; lanes that "
        "share a machine slow each other down (engine.lanes=streams)",
    )


def _merger_warnings(setting: LoopSetting) -> tuple[str, ...]:
    if not setting.merged:
        return ()
    return (
        "what drafters' wrong tokens have in common is not recorded: merged trees are verified as if they shared only "
        "what is accepted, so they are as large as real ones or larger, and take as long or longer",
    )


def _agreement_warnings(setting: LoopSetting, streams: AcceptanceStreams, source: str) -> tuple[str, ...]:
    """For texts that are recorded, but not how far copies agree on them."""
    copies = any(drafter.copies for drafter in setting.drafters)
    if streams.token_ids is None or streams.lookup_agreed is not None or not copies:
        return ()
    if not isinstance(setting.selector, LearnsByContext):
        return ()
    return (
        f"acceptance table {source} is of before format 3 and does not tell how far copies agree: this selector "
        "decides without, as it would not on the runtime; spinbench record merge=FOLDER adds that",
    )


def _branch_warnings(setting: LoopSetting, streams: AcceptanceStreams, source: str) -> tuple[str, ...]:
    """For texts that are recorded, but not where copies and the n-gram table part on them."""
    if not setting.branches or streams.token_ids is None or streams.ngram_agreed is not None:
        return ()
    return (
        f"acceptance table {source} is of before format 4 and does not tell where copies and the n-gram table part: "
        "drafts of both are never verified together, as they would be on the runtime; spinbench record merge=FOLDER "
        "adds that",
    )
