"""The replica that has least to do."""

from collections.abc import Sequence

from spinbench.control.router.load import ReplicaLoad
from spinbench.control.router.protocol import RoutedRequest


class LeastOutstandingTokensRouter:
    """The replica with the fewest tokens still to be prefilled or emitted; of equal ones the first."""

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaLoad]) -> int:
        """By the sums at this moment."""
        return min(range(len(replicas)), key=lambda place: replicas[place].outstanding_tokens)
