"""What a file of conf/ says of itself: its first comment, and each key with its value and the comment above it."""

import re
from dataclasses import dataclass
from pathlib import Path

KEY = re.compile(r"(?P<indent> *)(?P<name>\w+):(?: (?P<value>.*))?$")


@dataclass(frozen=True)
class Key:
    """One key with a value."""

    name: str
    """With dots where it is in a section."""
    value: str
    """As written; of a list over several lines its items."""
    meaning: str


@dataclass(frozen=True)
class ConfigFile:
    """One file."""

    about: str
    keys: tuple[Key, ...]
    target: str | None
    """Its `_target_`."""
    bases: tuple[str, ...]
    """Choices of the same group that it changes."""


def read_config_file(path: Path) -> ConfigFile:
    """The file; its `hydra` section is left out."""
    lines = path.read_text(encoding="utf-8").split("\nhydra:")[0].splitlines()
    lines = [line for line in lines if not line.startswith("# @package")]
    about_end = next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))
    about = lines[:about_end] if _is_apart(lines, about_end) else lines[:1]
    keys: list[Key] = []
    bases: list[str] = []
    target, comment, sections = None, [], [""]
    for line in lines[len(about) :]:
        text = line.strip()
        found = KEY.match(line)
        if text.startswith("#"):
            comment.append(text.removeprefix("#").strip())
        elif text.startswith("- "):
            item = text.removeprefix("- ")
            if sections[-1] == "defaults":
                bases.append(item)
            else:
                keys[-1] = Key(keys[-1].name, f"{keys[-1].value}, {item}".removeprefix(", "), keys[-1].meaning)
        elif found:
            depth = len(found["indent"]) // 2
            sections = [*sections[: depth + 1], found["name"]]
            name = ".".join(sections[1:])
            value = (found["value"] or "").split("  #")[0].strip()
            if name == "_target_":
                target = value
            elif name == "defaults":
                bases.extend(re.findall(r"[\w/]+", value))
            else:
                keys.append(Key(name, value, " ".join(comment)))
            comment = []
        elif text and keys and not found:  # an item goes on
            keys[-1] = Key(keys[-1].name, f"{keys[-1].value} {text}", keys[-1].meaning)
        else:
            comment = []
    parents = {name.rpartition(".")[0] for name in (key.name for key in keys)}
    own = tuple(key for key in keys if key.name not in parents)
    bases = [base for base in bases if re.fullmatch(r"\w+", base) and base != "_self_"]
    return ConfigFile(_text(about), own, target, tuple(bases))


def _is_apart(lines: list[str], end: int) -> bool:
    """Whether the comment before line `end` is of the file, not of its first key."""
    return end == len(lines) or not lines[end].strip() or lines[end].startswith(("_target_", "defaults", "kind:"))


def _text(comment: list[str]) -> str:
    return " ".join(line.removeprefix("#").strip() for line in comment)
