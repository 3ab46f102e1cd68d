"""How much two lanes of one device slow each other."""

from typing import Any, NamedTuple

import numpy as np

from spinbench.control.cost_curve import Amount


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

    def both_s(self, drafter_s: Amount, target_s: Amount) -> Amount:
        """Seconds until both lanes are done that begin together, given what each takes on its lane with the other idle.

        Up to the end of the shorter one both are slowed; what is left of the longer one then has the device to itself.
        """
        target_slower, drafter_slower = self.target_beside / self.target_alone, self.drafter_beside / self.drafter_alone
        beside_s: Any = np.minimum(drafter_s * drafter_slower, target_s * target_slower)
        # one of the two differences is 0
        left_s = (drafter_s - beside_s / drafter_slower) + (target_s - beside_s / target_slower)
        return beside_s + left_s


NOT_SLOWED = Overlap(1.0, 1.0, 1.0, 1.0)
"""Each lane is a device of its own."""
