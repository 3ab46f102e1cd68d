"""What is asked of a server: the columns of a report."""

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Load:
    """What is asked of the server: the batch, and in what the arrivals of a section's runs differ."""

    batch: int
    """Most requests served at once (`max_num_seqs`)."""
    arrivals: tuple[tuple[str, Any], ...] = ()
    """Config keys and values, only of keys that vary."""

    @property
    def label(self) -> str:
        """In words, for people."""
        named = (f"{key_name(key).replace('_', ' ')} {value_text(value)}" for key, value in self._there)
        return ", ".join([f"batch {self.batch}", *named])

    @property
    def slug(self) -> str:
        """For names of files."""
        parts = [f"batch{self.batch}", *(f"{key_name(key)}-{value_text(value)}" for key, value in self._there)]
        return re.sub(r"[^\w.-]+", "_", "-".join(parts))

    @property
    def order(self) -> tuple[Any, ...]:
        """To sort by: the batch, then numbers before texts."""
        numbers = [
            (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, value_text(value))
            for _, value in self.arrivals
        ]
        return self.batch, *numbers

    @property
    def _there(self) -> list[tuple[str, Any]]:
        return [(key, value) for key, value in self.arrivals if value is not None]

    def number(self, key: str) -> float:
        """The value of one of the varying keys, or of `batch`; NaN where it is no number."""
        value = self.batch if key == "batch" else dict(self.arrivals).get(key)
        return float(value) if isinstance(value, int | float) else float("nan")


def key_name(key: str) -> str:
    """The last part of a config key with dots."""
    return key.rsplit(".", 1)[-1]


def value_text(value: Any) -> str:
    """A config value, for people."""
    return f"{value:g}" if isinstance(value, float) else str(value)
