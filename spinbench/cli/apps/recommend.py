"""`spinbench recommend`: which set-up to run for a trace."""

from spinbench.cli.hydra_app.app import Command, run_hydra_app


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    return run_hydra_app("recommend", _command, arguments)


def _command() -> Command:
    # imported when there is work to do: --cfg and the tab key shall not wait for it
    from spinbench.cli.recommend.command import Recommend

    return Recommend()
