"""A config as the shortest command line, or experiment file, that gives it again."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from spinbench.cli.hydra_app.app import Point, compose_points
from spinbench.cli.hydra_app.override_value import key_of, override_value
from spinbench.sweep.table import flat

Sought = tuple[Mapping[str, Any], Mapping[str, str]]
"""Sections of a config as plain values, and the groups whose choice they come from."""


def with_overrides(overrides: Sequence[str], words: Sequence[str]) -> list[str]:
    """The overrides, and then others in the place of those of the same key; another choice drops its group's values."""
    named = {key_of(word) for word in words}
    choices = {key for key in named if "." not in key}
    return [
        *(one for one in overrides if key_of(one) not in named and key_of(one).partition(".")[0] not in choices), *words
    ]  # fmt: skip


def shortest_overrides(sought: Sequence[Sought]) -> list[list[str]]:
    """For each, overrides that give a replay whose sections are these: choices first, then values.

    Raises UserError where a choice is unknown to a replay.
    """
    own = compose_points("replay", [[]])[0][0].choices
    groups = [[f"{group}={choice}" for group, choice in choices.items() if own.get(group) != choice]
              for _, choices in sought]  # fmt: skip
    composed = compose_points("replay", groups)
    return [
        [*chosen, *(f"{key}={override_value(value)}" for key, value in differing_values(given, points[0]).items())]
        for (given, _), chosen, points in zip(sought, groups, composed, strict=True)
    ]


def differing_values(given: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """By key with dots, the values of plain sections in which they differ from a composed point's."""
    plain: Any = point.config
    if isinstance(plain, DictConfig):
        # not `resolved`: some choices leave a value open, e.g. the path of a trace that does not come with spinbench
        plain = OmegaConf.to_container(plain, resolve=True, throw_on_missing=False)
    before = flat({str(key): value for key, value in plain.items() if key in given})
    after = flat(given)
    return {key: value for key, value in after.items() if key not in before or before[key] != value}
