"""A config as the shortest command line, or experiment file, that gives it again."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from spinbench.cli.hydra_app import Point, compose_points
from spinbench.cli.override_value import key_of, override_value
from spinbench.sweep.table import flat


def composed(overrides: Sequence[str]) -> Point:
    """The replay that overrides give. Raises UserError as `compose_points`."""
    return compose_points("replay", [overrides])[0][0]


def with_overrides(overrides: Sequence[str], words: Sequence[str]) -> list[str]:
    """The overrides, and then others in the place of those of the same key; another choice drops its group's values."""
    named = {key_of(word) for word in words}
    choices = {key for key in named if "." not in key}
    return [
        *(one for one in overrides if key_of(one) not in named and key_of(one).partition(".")[0] not in choices), *words
    ]  # fmt: skip


def shortest_overrides(given: Mapping[str, Any], choices: Mapping[str, str]) -> list[str]:
    """Overrides that give a replay whose sections of these names are `given`: choices first, then values.

    `given` has plain values; `choices` the groups whose choice they come from. Raises UserError where a choice is
    unknown to a replay.
    """
    own = composed([]).choices
    groups = [f"{group}={choice}" for group, choice in choices.items() if own.get(group) != choice]
    return groups + [f"{key}={override_value(value)}" for key, value in differing_values(given, groups).items()]


def differing_values(given: Mapping[str, Any], groups: Sequence[str]) -> dict[str, Any]:
    """By key with dots, the values in which `given` differs from what the choices alone give."""
    config = composed(groups).config
    assert isinstance(config, DictConfig)
    # not `resolved`: some choices leave a value open, e.g. the path of a trace that does not come with spinbench
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    assert isinstance(plain, dict)
    before = flat({str(key): value for key, value in plain.items() if key in given})
    after = flat(given)
    return {key: value for key, value in after.items() if key not in before or before[key] != value}
