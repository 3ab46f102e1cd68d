"""What `spinbench validate` does: loads from the simulated capacity, runs on both engines, a report."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from pydantic import Field
from rich.console import Console
from rich.markup import escape

from spinbench.calibration.fitting.score import score_profile
from spinbench.calibration.measuring.pace_check import PaceCheck
from spinbench.calibration.profile.profile_file import Profile
from spinbench.cli.config.device_choice import with_known_dtype
from spinbench.cli.config.replay import (
    ReplayConfig,
    RuntimeSection,
    ServingConfig,
    SimulationSection,
    parse_config,
    require_one_process,
    resolved,
)
from spinbench.cli.engine.live import LiveEngine
from spinbench.cli.engine.simulated import SimulatedEngine
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.out_folder import require_empty
from spinbench.cli.replay.command import print_saved, save, serve
from spinbench.cli.replay.provenance import CodeFacts, command_line
from spinbench.cli.validate.paced_runs import PacedRun, PacedRuns
from spinbench.errors import UserError
from spinbench.metrics.store import SUMMARY_FILE, Run, read_run
from spinbench.report.figures.validation import LoadResult
from spinbench.report.validation.page import write_validation

ENGINES = ("runtime", "simulation")
OWN_KEYS = (*ENGINES, "loads", "repeats", "pace_check_s")
"""Keys that a replay does not have."""


class ValidateConfig(ServingConfig):
    """Everything that `spinbench validate` is told."""

    runtime: RuntimeSection
    simulation: SimulationSection
    loads: Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]
    repeats: Annotated[int, Field(ge=1)]
    pace_check_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class _Replay:
    """One replay of the validation: a checked config, and the point that results name."""

    config: ReplayConfig
    point: Point


class Validate:
    """The command, with the models and files that its points share."""

    def __init__(self) -> None:
        self._live = LiveEngine()
        self._simulated = SimulatedEngine()
        self._code = CodeFacts.here()

    def check(self, point: Point) -> None:
        """Raise UserError for what is wrong with config or folder; loads no model."""
        config = parse_config(point.config, ValidateConfig)
        if len(set(config.loads)) < len(config.loads):
            raise UserError(f"loads are {config.loads}; each can be there once")
        if not any((point.folder / engine).is_dir() for engine in ENGINES):  # an interrupted validation goes on
            require_empty(point.folder)
        self._simulated.check(_replay(point, "simulation", point.folder, None).config)
        profiled = self._simulated.profile(config.simulation).meta.dtype
        dtype = with_known_dtype(config.runtime).dtype
        if profiled != dtype:
            asked = "" if dtype == config.runtime.dtype else f"{config.runtime.dtype}, which is "
            raise UserError(f"runtime.dtype is {asked}{dtype} here; the profile is of {profiled}: set it likewise")
        require_one_process(config.runtime)
        if config.runtime.profile != config.simulation.profile:
            raise UserError(
                f"runtime.profile is {config.runtime.profile!r}, simulation.profile is {config.simulation.profile!r}; "
                "decisions must go by the same costs on both engines"
            )
        self._live.check(_replay(point, "runtime", point.folder, None).config)

    def run(self, point: Point) -> None:
        """Leave runs and report in the point's folder. Raises UserError, and Interrupted on Ctrl-C."""
        config = parse_config(point.config, ValidateConfig)
        capacity_rps = self._capacity_rps(_replay(point, "simulation", point.folder, None))
        rates_rps = {load: load * capacity_rps for load in config.loads}
        simulated = {
            load: self._run(_replay(point, "simulation", point.folder / "simulation" / _name(load), rate_rps))
            for load, rate_rps in rates_rps.items()
        }
        real = self._real_runs(point, config, rates_rps, simulated.values())
        results = [
            self._compared(point, load, rate_rps, simulated[load], real[load]) for load, rate_rps in rates_rps.items()
        ]
        scores = _job_scores(self._simulated.profile(config.simulation))
        page = write_validation(point.folder, results, scores, capacity_rps, command_line("validate", point.overrides))
        Console().print(f"report in {escape(str(page))}", highlight=False, soft_wrap=True)

    def _real_runs(
        self, point: Point, config: ValidateConfig, rates_rps: Mapping[float, float], simulated: Iterable[Run]
    ) -> dict[float, list[PacedRun]]:
        """The runs of each load. The loads take turns: a machine that changes its pace for minutes changes it for all
        of them, and shows in what the repeats of each differ by.
        """
        real: dict[float, list[PacedRun]] = {load: [] for load in rates_rps}
        paced = self._paced_runs(point, config, simulated)
        for repeat in range(config.repeats):
            for load, rate_rps in rates_rps.items():
                folder = point.folder / "runtime" / _name(load) / f"repeat-{repeat}"
                replay = _replay(point, "runtime", folder, rate_rps)
                real[load].append(paced.run(folder, partial(self._run, replay)))
        return real

    def _compared(
        self, point: Point, load: float, rate_rps: float, simulated: Run, both: Sequence[PacedRun]
    ) -> LoadResult:
        real, paces = [run for run, _ in both], [jobs for _, jobs in both]
        exact = _replay(point, "simulation", point.folder, rate_rps)
        at_pace = [self._simulated.rescaled(exact.config, jobs) for jobs in paces] if all(paces) else []
        again = [self._simulated.decide_again(exact.config, run) for run in real]
        others = [again[:place] + again[place + 1 :] for place in range(len(again))] if len(again) > 1 else []
        rescaled = [self._simulated.rescaled(exact.config, [one.jobs for one in runs]) for runs in others]
        return LoadResult(
            load, rate_rps, real, simulated, again, rescaled, [job for jobs in paces for job in jobs], at_pace
        )

    def _paced_runs(self, point: Point, config: ValidateConfig, simulated: Iterable[Run]) -> PacedRuns:
        """What makes the real runs: the jobs that the simulated ones have are those to check the pace by."""
        replay = _replay(point, "runtime", point.folder, None).config
        profile = self._simulated.profile(config.simulation)
        shares = defaultdict[tuple[str, str], float](float)
        for spans in (run.spans for run in simulated):
            for kind, lane, seconds in zip(
                spans["kind"], spans["lane"], spans["end_s"] - spans["start_s"], strict=True
            ):
                shares[kind, lane] += seconds
        check = PaceCheck(profile, config.models.drafters, shares)
        return PacedRuns(check, config.pace_check_s, lambda: self._live.bench(replay, profile.meta))

    def _run(self, replay: _Replay) -> Run:
        """The run in the replay's folder, made unless it is there from a run of the same config."""
        folder = replay.point.folder
        if (folder / SUMMARY_FILE).is_file():
            run = read_run(folder)
            if run.config != resolved(replay.point.config):
                raise UserError(f"{folder}: holds a run of another config; choose another hydra.run.dir")
            return run
        engine = self._live if replay.config.engine.kind == "runtime" else self._simulated
        with engine.session(replay.config) as session:
            begun_s = time.perf_counter()
            record = serve(replay.config, replay.point, session)
            wall_s = time.perf_counter() - begun_s
            saved = save(replay.config, replay.point, session, record, wall_s, self._code)
        print_saved(folder, saved)
        return read_run(folder)

    def _capacity_rps(self, replay: _Replay) -> float:
        """Requests per second that the simulator finishes when all are there from the start."""
        with self._simulated.session(replay.config) as session:
            record = session.make_loop(None, lambda body: body).run()
        return len(record.requests) / (record.end_s - record.start_s)


def _job_scores(profile: Profile) -> pd.DataFrame:
    """Held-out errors of every job kind, over all lanes."""
    scores = [score for score in score_profile(profile) if score.what == "job" and score.lane == "all"]
    return pd.DataFrame(
        {
            "job": [score.kind for score in scores],
            "held-out points": [score.num_points for score in scores],
            "MAPE %": [score.mape_percent for score in scores],
            "p90 %": [score.p90_percent for score in scores],
            "bias %": [score.bias_percent for score in scores],
            "noise %": [score.noise_percent for score in scores],
            "floor %": [score.floor_percent for score in scores],
        }
    )


def _name(load: float) -> str:
    return f"load-{load:g}"


def _replay(point: Point, engine: str, folder: Path, rate_rps: float | None) -> _Replay:
    """The replay at a request rate; None = all requests at once."""
    plain = resolved(point.config)
    arrivals = {"kind": "all_at_once"} if rate_rps is None else {
        "kind": "gamma", "request_rate": rate_rps, "burstiness": 1.0, "seed": plain["seed"]
    }  # fmt: skip
    kept = {key: value for key, value in plain.items() if key not in OWN_KEYS}
    config = OmegaConf.create({**kept, "engine": plain[engine], "arrivals": arrivals})
    assert isinstance(config, DictConfig)
    return _Replay(parse_config(config, ReplayConfig), replace(point, config=config, folder=folder))
