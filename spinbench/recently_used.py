"""What was made or worked out and may be asked for again, as much of it as is stated."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Kind = TypeVar("Kind")


class RecentlyUsed(Generic[Kind]):
    """The last things that were asked for, by what they were made from.

    Where making is a pure function of the key, what was dropped meanwhile cannot be told by what comes out.
    """

    def __init__(self, most: int) -> None:
        """`most` things are kept; the one that was not asked for longest goes first."""
        self._most = most
        self._kept: OrderedDict[Hashable, Kind] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Kind]) -> Kind:
        """What is kept for `key`, made if need be."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = self._kept[key] = make()
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return made

    def __len__(self) -> int:
        """Things that are kept."""
        return len(self._kept)
