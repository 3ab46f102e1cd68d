"""Values that nobody changes."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """A dataclass whose fields a type checker guards, as of `dataclass(frozen=True, slots=True)`.

    For what is made several times in a simulated round, of which there are thousands a second: a dataclass that guards
    its fields itself takes three times as long to make.
    """
    return dataclass(slots=True)(cls)
