"""Replicas in turn."""

from collections.abc import Sequence

from spinbench.control.router.load import ReplicaLoad
from spinbench.control.router.protocol import RoutedRequest


class RoundRobinRouter:
    """The replica after the last one, whatever they have to do."""

    def __init__(self) -> None:
        self._last = -1
        """Number of the replica that the last request went to."""

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaLoad]) -> int:
        """The next one; one that dropped out is passed over."""
        place = next((place for place, replica in enumerate(replicas) if replica.index > self._last), 0)
        self._last = replicas[place].index
        return place
