"""The set-ups that `spinbench recommend` chooses among, from a search space in the notation of sweeps."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from spinbench.cli.config.named_parts import is_part
from spinbench.cli.config.replay import resolved
from spinbench.cli.config.section import Section
from spinbench.cli.hydra_app.app import Point, compose_points
from spinbench.cli.hydra_app.override_text import with_overrides
from spinbench.cli.hydra_app.override_value import key_of, override_value, section_of
from spinbench.control.draft_length.fixed import FixedDraftLength
from spinbench.control.selector.fixed import FixedSelector
from spinbench.control.selector.plain import PlainSelector
from spinbench.errors import UserError
from spinbench.sweep.point import digest

Role = Literal["plain", "single", "other"]
"""Plain decoding; one drafter with the same K always; anything else."""
Text = Annotated[str, Field(min_length=1)]
NOT_SEARCHED = (
    "engine",
    "trace",
    "arrivals",
    "slo",
    "seed",
    "repeat",
    "keep",
    "sweep",
    "launcher",
    "sink",
    "hydra",
    "sampling",
)
"""Top-level keys that are the question, not a part of its answer."""


class SearchSection(Section):
    """What is tried."""

    set_ups: Annotated[list[Text], Field(min_length=1)]
    combined_with: list[Text]


@dataclass(frozen=True)
class SetUp:
    """One candidate."""

    name: str
    """Its own overrides, without what all candidates share: as one would tell it from the others."""
    overrides: tuple[str, ...]
    """What it sets beside what the question sets."""
    role: Role
    point: Point
    """Simulated, on the whole trace; its config is plain."""


def expand(search: SearchSection, question: Sequence[str]) -> list[SetUp]:
    """Every set-up of the space, each once, in its order; `question` are the overrides that all share.

    Raises UserError for a text that is no list of overrides, for keys that do not belong into a search space, and for
    a space without plain decoding or without a single drafter, with which the answer is to be compared.
    """
    combined = _words(search.combined_with, "search.combined_with")
    sweeps = []
    for place, text in enumerate(search.set_ups):
        own = with_overrides(combined, _words([text], f"search.set_ups[{place}]"))
        sweeps.append(with_overrides(question, own))
    asked = {*question}
    found: dict[str, SetUp] = {}
    for point in (point for points in compose_points("replay", sweeps) for point in points):
        own = tuple(word for word in point.overrides if word not in asked)
        one = _only_what_it_asks(SetUp("", own, "other", replace(point, config=resolved(point.config))))
        found.setdefault(digest(one.point.config), one)
    shared = set.intersection(*(set(one.overrides) for one in found.values()))
    set_ups = [replace(one, name=_name(one, shared), role=_role(one.point)) for one in found.values()]
    for role, example in (("plain", "selector=plain"), ("single", "selector=fixed selector.drafter=NAME")):
        if not any(one.role == role for one in set_ups):
            raise UserError(
                f"search.set_ups has no {'plain decoding' if role == 'plain' else 'single drafter with a fixed K'} to "
                f"compare with; add '{example}'"
            )
    return set_ups


def _only_what_it_asks(one: SetUp) -> SetUp:
    """Without the drafters that a set-up never asks: what is loaded costs memory."""
    config = one.point.config
    if is_part(config["selector"], PlainSelector):
        drafters: list[str] = []
    elif is_part(config["selector"], FixedSelector):
        drafters = [name for name in config["models"]["drafters"] if name == config["selector"]["drafter"]]
        if not drafters:
            return one  # a name that is not among them: whoever checks it says so, and what there is
    else:
        return one
    if drafters == config["models"]["drafters"]:
        return one
    point = with_value(one.point, "models.drafters", drafters)
    return replace(one, overrides=(*one.overrides, point.overrides[-1]), point=point)


def with_value(point: Point, key: str, value: Any) -> Point:
    """A point of a plain config with another value of a key SECTION.NAME, without composing it anew."""
    section, _, name = key.partition(".")
    values = dict(point.config[section])
    if values[name] == value:
        return point
    config = {str(one): of for one, of in point.config.items()} | {section: {**values, name: value}}
    overrides = with_overrides(point.overrides, [f"{key}={override_value(value)}"])
    return replace(point, config=config, overrides=tuple(overrides))


def _words(texts: Sequence[str], where: str) -> list[str]:
    try:
        words = [word for text in texts for word in shlex.split(text)]
    except ValueError as error:
        raise UserError(f"{where}: {' '.join(texts)!r} cannot be read: {str(error).lower()}") from error
    for word in words:
        top = section_of(word)
        if "=" not in word and not word.startswith("~"):
            raise UserError(f"{where}: {word!r} is no override; write key=value")
        if top in NOT_SEARCHED:
            raise UserError(f"{where}: {word!r} is not of a set-up; {top} is the same for all of them")
    return words


def _name(one: SetUp, shared: set[str]) -> str:
    words = [word for word in one.overrides if word not in shared]
    if any(is_part(one.point.config["selector"], kind) for kind in (PlainSelector, FixedSelector)):
        words = [word for word in words if key_of(word) != "models.drafters"]  # the selector says it
    return " ".join(words or one.overrides)


def _role(point: Point) -> Role:
    if is_part(point.config["selector"], PlainSelector):
        return "plain"
    single = is_part(point.config["selector"], FixedSelector) and is_part(point.config["drafting"], FixedDraftLength)
    return "single" if single else "other"
