"""`spinbench profile`: what jobs cost on this machine, or on a device that a datasheet describes."""

from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from spinbench.cli.hydra_app.app import Command, run_hydra_app
from spinbench.cli.profile.dtype import profile_dtype
from spinbench.errors import UserError


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    OmegaConf.register_new_resolver("profile_dtype", _folder_dtype, replace=True)
    return run_hydra_app("profile", _command, arguments)


def _folder_dtype(engine: DictConfig, device: str) -> str:
    """For the name of the folder: timings of two number formats must not come into one."""
    named = profile_dtype(str(engine.get("dtype")), device)
    if named != "auto":
        return named
    # imported when a folder is named, which only a run does
    from spinbench.cli.config.device_choice import known_dtype
    from spinbench.cli.config.replay import LiveSection

    try:
        section = {"dtype": named, "device": engine.get("device"), "num_threads": None}
        return known_dtype(LiveSection.model_validate(section))
    except (UserError, ValidationError):
        return named  # the command refuses this engine.device next, and names the key


def _command() -> Command:
    # imported when there is work to do: torch would keep --cfg and every press of the tab key waiting for seconds
    from spinbench.cli.profile.command import ProfileCommand

    return ProfileCommand()
