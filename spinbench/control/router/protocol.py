"""What a router is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spinbench.control.router.load import ReplicaLoad


@dataclass(frozen=True, slots=True)
class RoutedRequest:
    """What is known of a request before it is served."""

    prompt_tokens: int
    answer_tokens: int
    """At the most: nobody knows where it will end."""


class Router(Protocol):
    """Chooses a replica for each request as it arrives.

    A new router is one class with this method and one YAML file that names it as `_target_`.
    """

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaLoad]) -> int:
        """Place in `replicas` of the one that shall serve the request.

        `replicas` are those that can take requests, at least one, in the same order each time; one may drop out.
        """
        ...
