"""One point of a sweep: what it is, how it is called and where its run goes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spinbench.errors import UserError

KEY_DIGITS = 12
"""Digits of the key in a folder's name."""
MAX_LABEL_BYTES = 120
"""Bytes of a folder's name before the key: file systems take 255 in all."""


@dataclass(frozen=True)
class SweepPoint:
    """One combination, resolved."""

    key: str
    """Hex digest of all that decides the result, see `point_key`."""
    folder: str
    """Name inside the sweep's folder."""
    config: Mapping[str, Any]
    """Plain values, without what only says how points are run."""
    choices: Mapping[str, str]
    """The choice of every config group."""
    overrides: tuple[str, ...]
    """The command line that gives this point alone."""

    @property
    def config_sha256(self) -> str:
        """Digest of the config alone: the same point for another version of the code or of the inputs."""
        return digest(self.config)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "key": self.key,
            "folder": self.folder,
            "config": dict(self.config),
            "choices": dict(self.choices),
            "overrides": list(self.overrides),
        }

    @classmethod
    def of_dict(cls, content: Mapping[str, Any], where: str) -> "SweepPoint":
        """From JSON. Raises UserError, naming `where`, when a key is missing."""
        try:
            return cls(
                str(content["key"]), str(content["folder"]), content["config"], content["choices"],
                tuple(content["overrides"]),
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise UserError(f"{where}: a point lacks {error}; the file was edited") from error


def point_key(config: Mapping[str, Any], code: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Hex digest of all that decides a point's result.

    `config` is resolved, without what cannot change the result; `code` names the version of what runs; `inputs` has
    digests of the files that the config names.
    """
    return digest({"config": config, "code": code, "inputs": inputs})


def points_text(count: int) -> str:
    """So many points, in words."""
    return f"{count} point" if count == 1 else f"{count} points"


def digest(content: Mapping[str, Any]) -> str:
    """Hex digest of plain values, whatever the order of their keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def folder_name(label: str, key: str) -> str:
    """What a point's folder is called: a label to be read, as far as it fits, and its key."""
    readable = label.encode()[:MAX_LABEL_BYTES].decode(errors="ignore").strip()
    return f"{readable}-{key[:KEY_DIGITS]}" if readable else key[:KEY_DIGITS]
