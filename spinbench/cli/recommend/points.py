"""Simulated points of a recommendation: done by the workers of a sweep, kept in its folder, none of them twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.config.sweep import SweepSection
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.recommend.question import Question
from spinbench.cli.recommend.search_space import SetUp, with_value
from spinbench.cli.replay.command import Replay
from spinbench.cli.replay.provenance import command_line
from spinbench.cli.sweep.points import PointKeys, PointSettings, do_points
from spinbench.json_file import read_json
from spinbench.metrics.store import Kept, Run, read_run
from spinbench.sweep.folder import FAILURE_FILE, POINT_FILE, SweepFolder, reason_of
from spinbench.sweep.halving import Score
from spinbench.sweep.point import MAX_LABEL_BYTES, SweepPoint

POINTS_FOLDER = "points"
MAX_ATTEMPTS = 3
"""Workers that may die of a point before it counts as failed."""


@dataclass(frozen=True)
class Simulated:
    """What became of a set-up on some requests."""

    set_up: SetUp
    folder: Path
    metrics: Mapping[str, Any] | None
    """None where it could not be served."""
    failure: str | None

    def run(self) -> Run:
        """All of it, where its tables were kept. Raises UserError where they were not."""
        return read_run(self.folder)

    def score(self, objective: str) -> Score | None:
        """The objective, and for equals the mean latency, less being better; None where it could not be served."""
        if self.metrics is None:
            return None
        return (float(self.metrics[objective] or 0.0), -float(self.metrics["mean_e2el_ms"] or 0.0))


class Simulations:
    """Simulates set-ups as asked for."""

    def __init__(self, question: Question, replay: Replay) -> None:
        self._question = question
        self._replay = replay
        self._folder = SweepFolder(question.folder / POINTS_FOLDER)
        self._keys = PointKeys()

    def run(self, wanted: Sequence[tuple[SetUp, Point]], keep: Kept) -> list[Simulated]:
        """Set-ups as points whose configs are plain. Raises UserError, and KeyboardInterrupt on Ctrl-C."""
        asked: list[SweepPoint] = []
        for one, point in wanted:
            config = parse_config(point.config, ReplayConfig)
            label = one.name.replace("/", "_")[:MAX_LABEL_BYTES]
            asked.append(self._keys.sweep_point(point, point.config, config, label))
        listed = {point.key: point for point in self._folder.add(asked)}
        settings = PointSettings(
            self._question.config.launcher, SweepSection(retry_failed=False, max_attempts=MAX_ATTEMPTS), keep,
            is_simulation=True, wants_gpu=False,
        )  # fmt: skip
        command = command_line("recommend", self._question.command)
        do_points(self._folder, list(listed.values()), settings, command, self._replay, quiet=True)
        return [self._outcome(listed[point.key], one) for point, (one, _) in zip(asked, wanted, strict=True)]

    def on_part(self, set_ups: Sequence[SetUp], part: float) -> list[Simulated]:
        """Each on a part of the trace that is asked about; of the whole one the tables are kept, too."""
        share = self._question.config.trace.part * part
        points = [(one, with_value(one.point, "trace.part", share)) for one in set_ups]
        return self.run(points, "tables" if part == 1 else "summary")

    def _outcome(self, point: SweepPoint, one: SetUp) -> Simulated:
        path = self._folder.folder_of(point)
        if self._folder.is_done(point):
            return Simulated(one, path, read_json(path / POINT_FILE)["metrics"], None)
        return Simulated(one, path, None, reason_of(read_json(path / FAILURE_FILE)))
