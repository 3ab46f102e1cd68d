"""Hydra's messages of many lines, told in one that names the key, what was given and what would be right."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spinbench.cli.hydra_app.override_value import key_of

Compose = Callable[[list[str]], Any]
"""The config, `hydra` node included, for a list of overrides."""

UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'|Could not delete from config\. '([^']+)' does not exist")
SWEEP_WITHOUT_MULTIRUN = re.compile(r"(?:Ambiguous value for argument|Sweep parameters) '(.+)'")


def explain_hydra_error(error: HydraException, overrides: list[str], compose: Compose) -> str:
    """One line for what Hydra found wrong with `overrides`."""
    message = str(error)
    if isinstance(error, OverrideParseException):
        return f"cannot read the override {error.override!r}: {_first_line(message)}; write key=value or group=choice"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        if error.options and group:
            return f"{group}={choice}: no such choice; choices are {', '.join(sorted(error.options))}"
        return f"config {error.missing_cfg_file!r} not found"
    if sweep := SWEEP_WITHOUT_MULTIRUN.search(message):
        key, _, values = sweep[1].partition("=")
        return f"{sweep[1]}: to sweep over several values add -m; for a list write {key}=[{values.strip('[]')}]"
    if unknown := UNKNOWN_KEY.search(message):
        return _unknown_key(unknown[1] or unknown[2], overrides, compose)
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return explain_omegaconf_error(cause)
    return " ".join(message.split()) or type(error).__name__


def explain_omegaconf_error(error: OmegaConfBaseException) -> str:
    """One line for what OmegaConf found: a value left open, a broken interpolation."""
    message = _first_line(str(error))
    key = error.full_key
    if message.startswith("Missing mandatory value"):
        return f"{key} has no value; give {key}=..."
    return f"{key}: {message}" if key else message


def _unknown_key(key: str, overrides: list[str], compose: Compose) -> str:
    """Names the keys beside an unknown one, as they are without the override that names it."""
    others = [text for text in overrides if key_of(text).partition("@")[0] != key]
    try:
        config = compose(others)
    except HydraException:
        return f"unknown key {key!r}"
    parent, _, last = key.rpartition(".")
    # the deepest part of the path that is there
    while parent and not isinstance(_select(config, parent), DictConfig):
        parent, _, last = parent.rpartition(".")
    node = _select(config, parent) if parent else config
    keys = [str(name) for name in node if name != "hydra" and not str(name).startswith("_")]
    if not parent:
        # groups and keys share one namespace at the top; groups that hold nothing yet (experiment=null) count too
        keys = sorted({*keys, *(name for name in config.hydra.runtime.choices if not name.startswith("hydra"))})
    near = get_close_matches(last, keys, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown key {key!r}; {hint}keys{f' of {parent}' if parent else ''} are {', '.join(keys) or 'none'}"


def _select(config: DictConfig, path: str) -> Any:
    try:
        return OmegaConf.select(config, path)
    except OmegaConfBaseException:
        return None


def _first_line(message: str) -> str:
    return next((line.strip() for line in message.splitlines() if line.strip()), "")
