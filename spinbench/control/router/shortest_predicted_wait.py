"""The replica that can begin soonest."""

from collections.abc import Sequence

from spinbench.control.router.load import ReplicaLoad
from spinbench.control.router.pace import mean_pace
from spinbench.control.router.protocol import RoutedRequest


class ShortestPredictedWaitRouter:
    """The replica whose batch has a free place first, by the lengths in front and the pace of late.

    Where several could begin at once, the one with the fewest outstanding tokens. Replicas are alike, so all are
    predicted with their mean pace: a replica that happened to be a little faster would else get every request as long
    as it has places.
    """

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaLoad]) -> int:
        """By the prediction of this moment."""
        pace = mean_pace([replica.snapshot.pace for replica in replicas])
        return min(
            range(len(replicas)),
            key=lambda place: (replicas[place].wait_s(pace), replicas[place].outstanding_tokens),
        )
