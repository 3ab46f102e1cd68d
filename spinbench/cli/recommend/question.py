"""What `spinbench recommend` is asked: the traffic, the files, and the set-ups to choose among, all checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spinbench.calibration.profile.profile_file import Profile, read_profile
from spinbench.cli.config.replay import ReplayConfig, parse_config, resolved
from spinbench.cli.engine.decisions import read_trace
from spinbench.cli.hydra_app.app import Point, check_each
from spinbench.cli.hydra_app.override_text import shortest_overrides
from spinbench.cli.hydra_app.override_value import section_of
from spinbench.cli.locations import find_trace
from spinbench.cli.recommend.config import OWN_KEYS, RecommendConfig
from spinbench.cli.recommend.search_space import SetUp, expand
from spinbench.cli.replay.command import Replay
from spinbench.errors import UserError
from spinbench.metrics.slo import parse_slo
from spinbench.report.answer.model_error import ValidatedError
from spinbench.workload.request import Trace

ENGINES = ("simulation", "runtime")


@dataclass(frozen=True)
class Question:
    """A checked question."""

    folder: Path
    config: RecommendConfig
    command: tuple[str, ...]
    """The overrides of the command itself."""
    simulated: tuple[str, ...]
    """Overrides of a replay that all simulated set-ups share."""
    real: tuple[str, ...]
    """The same on the runtime."""
    set_ups: tuple[SetUp, ...]
    trace: Trace
    profile: Profile
    slo_ms: Mapping[str, float] | None
    validated: ValidatedError | None

    @property
    def objective(self) -> str:
        """Key of the metric that is sought to be largest."""
        return "output_throughput" if self.slo_ms is None else "request_goodput"

    @property
    def unit(self) -> str:
        """Of the objective, in words."""
        return "output tokens/s" if self.slo_ms is None else "requests/s within the SLO"

    def by_name(self, name: str) -> SetUp:
        """A set-up by its name."""
        return next(one for one in self.set_ups if one.name == name)


def ask(point: Point, replay: Replay) -> Question:
    """The question that a config stands for; no model is loaded. Raises UserError for what is wrong with it."""
    plain = resolved(point.config)
    config = parse_config(plain, RecommendConfig)
    slo_ms = parse_slo(config.slo) if config.slo is not None else None
    if not config.models.drafters:
        raise UserError("models.drafters is empty; name at least one drafter to choose among")
    # first what costs nothing to find
    validated = ValidatedError.of([Path(one) for one in config.validations]) if config.validations else None
    profile = read_profile(find_trace(config.simulation.profile))
    shared = {key: value for key, value in plain.items() if key not in OWN_KEYS}
    groups = {group: choice for group, choice in point.choices.items() if group in shared}
    simulated, real = map(
        tuple,
        shortest_overrides([({**shared, "engine": plain[name]}, {"engine": name, **groups}) for name in ENGINES]),
    )
    set_ups = expand(config.search, simulated)
    # an error names what is the set-up's own, not what all have in common
    named = [replace(one.point, overrides=one.overrides) for one in set_ups]
    check_each(named, lambda one: replay.check_config(parse_config(one.config, ReplayConfig)))
    first = parse_config(set_ups[0].point.config, ReplayConfig)
    return Question(
        folder=point.folder,
        config=config,
        command=point.overrides,
        simulated=simulated,
        real=real,
        set_ups=tuple(set_ups),
        trace=read_trace(first, None),
        profile=profile,
        slo_ms=slo_ms,
        validated=validated,
    )


def of_question(overrides: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Those overrides that set one of these top-level keys."""
    return [one for one in overrides if section_of(one) in keys]
