"""The simulated runs of a capacity search, kept as a sweep's points: what is done is never run again."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinbench.cli.capacity.config import CapacityConfig, replay_config, replay_overrides
from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.replay.command import Replay
from spinbench.cli.replay.provenance import command_line
from spinbench.cli.sweep.input_digests import InputDigests, code_version
from spinbench.cli.sweep.progress import SweepProgress
from spinbench.cli.sweep.work import PointWork
from spinbench.errors import UserError
from spinbench.json_file import read_json
from spinbench.metrics.capacity import Load
from spinbench.sweep.folder import FAILURE_FILE, POINT_FILE, SweepFolder
from spinbench.sweep.point import SweepPoint, folder_name
from spinbench.sweep.worker import forget_failure, work


class CapacityRuns:
    """Measures loads by runs in a folder, each a point of a sweep."""

    def __init__(
        self, replay: Replay, point: Point, plain: Mapping[str, Any], config: CapacityConfig, progress: SweepProgress
    ) -> None:
        """`plain` is the resolved config of the command, `config` the same checked."""
        self._replay = replay
        self._point = point
        self._plain = plain
        self._config = config
        self._progress = progress
        self._folder = SweepFolder(point.folder)
        self._code = code_version(is_simulation=True)
        self._digests = InputDigests()
        self._work = PointWork(replay, config.keep, self._code)
        self._num_done = 0
        self.summaries: dict[float, list[Mapping[str, Any]]] = {}
        """Metrics of the runs at each rate."""

    def load_at(self, rate_rps: float) -> Load:
        """What becomes of the requests at a rate. Raises UserError where a run fails, and KeyboardInterrupt."""
        # at once is at once, however often it is drawn
        draws = range(1 if math.isinf(rate_rps) else self._config.repeats)
        summaries = self.summaries[rate_rps] = self._run([self._sweep_point(rate_rps, draw) for draw in draws])
        within = [round(one["request_goodput"] * one["duration"]) for one in summaries]
        duration_s = sum(one["duration"] for one in summaries)
        return Load(
            rate_rps,
            num_requests=sum(one["num_prompts"] for one in summaries),
            num_within=sum(within),
            request_throughput=sum(one["completed"] for one in summaries) / duration_s,
        )

    def _sweep_point(self, rate_rps: float, draw: int) -> SweepPoint:
        plain = replay_config(self._plain, rate_rps, draw)
        config = parse_config(plain, ReplayConfig)
        key = self._digests.key(config, plain, self._code)
        label = "all_at_once" if math.isinf(rate_rps) else f"rate={rate_rps:g},draw={draw}"
        choices = {**self._point.choices, "arrivals": "all_at_once" if math.isinf(rate_rps) else "poisson"}
        overrides = replay_overrides(self._plain, self._point.overrides, rate_rps, draw)
        return SweepPoint(key, folder_name(label, key), plain, choices, overrides)

    def _run(self, asked: Sequence[SweepPoint]) -> list[Mapping[str, Any]]:
        points = self._folder.add(asked)
        for point in points:
            if self._folder.is_failed(point) and not self._folder.is_done(point):
                forget_failure(self._folder, point)
        pending = [point for point in points if not self._folder.is_done(point)]
        if pending:
            facts = {
                "command": command_line("capacity", self._point.overrides),
                "keep": self._config.keep,
                "is_simulation": True,
            }
            session = self._folder.begin(pending, self._code, 1, facts)
            work(self._folder, session, self._serve)
        return [self._summary(point) for point in points]

    def _serve(self, point: SweepPoint, path: Path) -> dict[str, Any]:
        return self._work.serve(point, path, self._progress.requests).summary

    def _summary(self, point: SweepPoint) -> Mapping[str, Any]:
        path = self._folder.folder_of(point)
        if self._folder.is_failed(point):
            failure = read_json(path / FAILURE_FILE)
            raise UserError(f"{failure['message']} (in {path})")
        self._num_done += 1
        self._progress.points(self._num_done, 0)
        return read_json(path / POINT_FILE)["metrics"]
