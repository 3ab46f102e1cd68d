"""`spinbench replay`: serves a trace on real models."""

from collections.abc import Sequence
from pathlib import Path

from spinbench.cli.hydra_app.app import Command, Point, run_hydra_app


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    return run_hydra_app("replay", _command, arguments, _sweep)


def _command() -> Command:
    # imported when there is work to do: torch would keep --cfg and every press of the tab key waiting for seconds
    from spinbench.cli.replay.command import Replay

    return Replay()


def _sweep(points: list[Point], folder: Path, arguments: Sequence[str]) -> int:
    from spinbench.cli.sweep.run import run_sweep

    return run_sweep(points, folder, arguments)
