"""The recommended set-up as an experiment file, for `spinbench replay --config-dir DIR experiment=recommended`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spinbench.cli.hydra_app.app import compose_points
from spinbench.cli.hydra_app.override_text import differing_values
from spinbench.cli.recommend.search_space import SetUp
from spinbench.text_file import write_text

CONFIG_FOLDER = "conf"
EXPERIMENT = "recommended"
SECTIONS = (
    "models", "selector", "drafting", "verification", "pipeline", "placement", "switching", "router", "replicas",
    "scheduler", "kv",
)  # fmt: skip
"""What makes a set-up; engine, trace and arrivals stay with the command line."""
ALWAYS = ("selector", "drafting")
"""Groups that are named even where they are a replay's own choice: they are what was chosen."""


def write_recommended(folder: Path, one: SetUp, about: Sequence[str]) -> Path:
    """Leave the file in DIR/conf/experiment, with lines about it on top; gives its path.

    Raises UserError when it cannot be written.
    """
    own = compose_points("replay", [[]])[0][0].choices
    given = {key: one.point.config[key] for key in SECTIONS if key in one.point.config}
    choices = {group: one.point.choices[group] for group in SECTIONS if group in one.point.choices}
    chosen = {group: choice for group, choice in choices.items() if group in ALWAYS or own[group] != choice}
    bare = compose_points("replay", [[f"{group}={choice}" for group, choice in chosen.items()]])[0][0]
    values = differing_values(given, bare)
    defaults = [{f"override /{group}": choice} for group, choice in chosen.items()]
    lines = ["# @package _global_", *(f"# {line}" for line in about)]
    body = yaml.safe_dump({"defaults": defaults, **_nested(values)}, sort_keys=False, allow_unicode=True)
    path = folder / CONFIG_FOLDER / "experiment" / f"{EXPERIMENT}.yaml"
    write_text(path, "\n".join(lines) + "\n" + body)
    return path


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return found
