"""`spinbench distill`: trains drafters for a target."""

from spinbench.cli.hydra_app.app import Command, run_hydra_app


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    return run_hydra_app("distill", _command, arguments)


def _command() -> Command:
    # imported when there is work to do: torch would keep --cfg and every press of the tab key waiting for seconds
    from spinbench.cli.distill.command import Distill

    return Distill()
