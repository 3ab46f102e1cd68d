"""`spinbench profile`: what jobs cost on this machine, or on a device that a datasheet describes."""

from omegaconf import OmegaConf

from spinbench.cli.hydra_app import Command, run_hydra_app
from spinbench.cli.profile_dtype import profile_dtype


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    # for the name of the folder
    OmegaConf.register_new_resolver("profile_dtype", profile_dtype, replace=True)
    return run_hydra_app("profile", _command, arguments)


def _command() -> Command:
    # imported when there is work to do: torch would keep --cfg and every press of the tab key waiting for seconds
    from spinbench.cli.profile_command import ProfileCommand

    return ProfileCommand()
