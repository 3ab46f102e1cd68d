"""`spinbench validate`: the same requests on both engines, and how far the simulator is from the truth."""

from spinbench.cli.hydra_app.app import Command, run_hydra_app


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    return run_hydra_app("validate", _command, arguments)


def _command() -> Command:
    from spinbench.cli.validate.command import Validate

    return Validate()
