"""How much two lanes of one device slow each other."""

from typing import NamedTuple


class Overlap(NamedTuple):
    """Factors on what a job takes with the whole device to itself, of a target and a drafter that share one.

    On a GPU the two are streams, and a job alone takes its own time. On a CPU they are threads that have the cores
    between them, and a job is slower even while the other lane is idle.
    """

    target_alone: float
    """The other lane idle."""
    target_beside: float
    """The other lane busy."""
    drafter_alone: float
    drafter_beside: float

    def factor(self, is_target: bool, is_beside: bool) -> float:
        """Of a job, while things are so."""
        if is_target:
            return self.target_beside if is_beside else self.target_alone
        return self.drafter_beside if is_beside else self.drafter_alone
