"""`spinbench record`: keeps what every drafter would do at every position of a trace's answers."""

from pathlib import Path

from omegaconf import OmegaConf

from spinbench.cli.hydra_app.app import Command, run_hydra_app


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    OmegaConf.register_new_resolver("record_name", _record_name, replace=True)
    return run_hydra_app("record", _command, arguments)


def _record_name(trace: object, target: object) -> str:
    """For the default folder: names without the folders in front of them."""
    return f"{Path(str(trace)).stem}-{Path(str(target)).name}"


def _command() -> Command:
    # imported when there is work to do: torch would keep --cfg and every press of the tab key waiting for seconds
    from spinbench.cli.record.command import Record

    return Record()
