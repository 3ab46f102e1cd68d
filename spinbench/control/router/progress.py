"""How far all replicas together are."""

from collections.abc import Callable
from functools import partial

from spinbench.control.loop_setting import Progress


class JoinedProgress:
    """Adds up what replicas tell of theirs."""

    def __init__(self, num_replicas: int, on_progress: Callable[[Progress], None] | None) -> None:
        self._of_replica = [Progress(0, 0)] * num_replicas
        self._on_progress = on_progress

    def of(self, replica: int) -> Callable[[Progress], None] | None:
        """Where a replica tells it; None where nobody listens."""
        return partial(self._tell, replica) if self._on_progress else None

    def _tell(self, replica: int, progress: Progress) -> None:
        self._of_replica[replica] = progress
        if self._on_progress:
            finished = sum(one.finished_requests for one in self._of_replica)
            self._on_progress(Progress(finished, sum(one.emitted_tokens for one in self._of_replica)))
