"""What of a round runs beside what, and so how the seconds of its parts add up."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spinbench.control.context import RoundOutcome
from spinbench.control.cost_curve import Amount
from spinbench.control.costs.overlap import NOT_SLOWED, Overlap
from spinbench.control.placement import SHARED, Placement


@dataclass(frozen=True, slots=True)
class RoundSchedule:
    """Of rounds that are alike, one after another: what each adds to the time that they take.

    Seconds may be arrays of cases; those that are predicted are of a lane while the others are idle. A round has three
    parts: *drafting*, which is over before its verification begins, the *verification*, and what is drafted *ahead*
    meanwhile, for the next round.
    """

    placement: Placement = SHARED
    drafts_ahead: bool = False
    """Drafters go on while what they drafted is verified."""
    overlap: Overlap = NOT_SLOWED
    """How the lanes of target and drafters slow each other."""
    num_in_flight: int = 0
    """Rounds of other micro-batches in flight."""

    def with_in_flight(self, num_in_flight: int) -> "RoundSchedule":
        """Of a round beside so many others."""
        return self if num_in_flight == self.num_in_flight else replace(self, num_in_flight=num_in_flight)

    @property
    def hides_drafting(self) -> bool:
        """Whether the target verifies another micro-batch while this one is drafted for."""
        return self.num_in_flight > 0 and self.placement.kind != "shared"

    @property
    def is_sum(self) -> bool:
        """Whether nothing overlaps, so that a round takes what all its jobs take together."""
        return not (self.placement.drafts_side_by_side or self.hides_drafting or self.drafts_ahead)

    def together_s(self, one_s: Amount, other_s: Amount) -> Amount:
        """Of jobs of different drafters: one after another, or at the same time."""
        together_s: Any = np.maximum(one_s, other_s) if self.placement.drafts_side_by_side else one_s + other_s
        return together_s

    def round_s(self, drafting_s: Amount, verify_s: Amount, ahead_s: Amount | float = 0.0) -> Amount:
        """Of a round, predicted.

        With other micro-batches in flight both lanes are busy, and the next rounds begin once the longer of the two is
        done. Those are taken to ask the same drafters: if they ask others, on devices of their own, drafting that takes
        longer than a verification holds up less. Beside what is drafted ahead a verification lasts until both are done,
        since the next draft waits for its drafter; on a shared device the two take turns.
        """
        if self.hides_drafting:
            return self.overlap.both_s(drafting_s, verify_s)
        if not self.drafts_ahead:
            return drafting_s + verify_s
        if self.placement.kind == "shared":
            return drafting_s + verify_s + ahead_s
        return drafting_s + self.overlap.both_s(ahead_s, verify_s)

    def measured_s(self, outcome: RoundOutcome) -> float:
        """Of a round that is over, by the times of its jobs: what slowed them is in these.

        Drafts that were made ahead took none of it but for what they went on for behind the verification before.
        """
        own_s = outcome.draft_time_s
        if outcome.drafted_ahead.any():
            own_s = np.where(outcome.drafted_ahead, 0.0, own_s)
        if self.placement.drafts_side_by_side:
            drafting_s = float(own_s.max(initial=0.0))
        else:
            drafting_s = float((own_s / np.maximum(outcome.group_size(), 1)).sum())
        if self.with_in_flight(outcome.num_in_flight).hides_drafting:
            return max(outcome.verify_time_s, drafting_s)
        return outcome.verify_time_s + drafting_s + outcome.ahead_left_s


BY_TURNS = RoundSchedule()
"""Nothing overlaps."""
