"""Configs of the shipped files, as a command has them."""

from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from spinbench.cli.hydra_app.session import hydra_session, parse_arguments


def composed(*overrides: str, name: str = "replay") -> DictConfig:
    """The config of a command with these overrides, without the `hydra` node."""
    with hydra_session(name, parse_arguments(name, [])) as hydra:
        config = hydra.compose_config(name, list(overrides), RunMode.RUN)
    with open_dict(config):
        del config["hydra"]
    return config
