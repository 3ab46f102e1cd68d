"""One point of a sweep of replays, wherever it is worked at."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spinbench.cli.config.replay import ReplayConfig, parse_config
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.interrupt import Interrupted
from spinbench.cli.replay.command import Replay, Saved, ShowProgress
from spinbench.cli.sweep.input_digests import InputDigests
from spinbench.errors import UserError
from spinbench.metrics.store import Kept
from spinbench.sweep.point import SweepPoint

_CHANGED = "a file that it is made from was changed since the command began; give the command again"
_OTHER_MACHINE = " (or engine.dtype=auto means another format on this machine than on the command's: name one)"


class PointWork:
    """Does points; what they share (models, profiles, tables) is kept between them."""

    def __init__(self, replay: Replay, keep: Kept, code: Mapping[str, Any]) -> None:
        self._replay = replay
        self._keep: Kept = keep
        self._code = code
        self._digests = InputDigests()

    def run(self, point: SweepPoint, folder: Path) -> dict[str, Any]:
        """Leave the point's run in `folder`; gives its metrics. Raises UserError."""
        return self.serve(point, folder, _in_silence).summary

    def serve(self, point: SweepPoint, folder: Path, show: ShowProgress) -> Saved:
        """As `run`, with all that the run says of itself."""
        config = parse_config({**point.config, "keep": self._keep}, ReplayConfig)
        if self._digests.key(config, point.config, self._code) != point.key:
            raise UserError(_CHANGED + (_OTHER_MACHINE if getattr(config.engine, "dtype", "") == "auto" else ""))
        saved = self._replay.serve(config, Point(point.config, folder, point.choices, point.overrides), show)
        if saved is None:
            raise RuntimeError("a sweep's points are of one process each, and this one keeps nothing")
        if not saved.summary["complete"]:
            raise Interrupted("a point was cut short")
        return saved


@contextmanager
def _in_silence(*_: object) -> Iterator[None]:
    yield None
