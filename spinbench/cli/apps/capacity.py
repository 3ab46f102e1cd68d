"""`spinbench capacity`: the largest request rate at which latency limits are kept."""

from spinbench.cli.hydra_app.app import Command, run_hydra_app


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    return run_hydra_app("capacity", _command, arguments)


def _command() -> Command:
    from spinbench.cli.capacity.command import FindCapacity

    return FindCapacity()
