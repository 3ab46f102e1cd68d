"""When the places of a replica's batch become free, as far as one can tell beforehand."""

import heapq

from spinbench.control.router.pace import Pace


class PlaceSchedule:
    """List scheduling of requests on the places of a batch (Graham, 1966): each in turn takes the place that is free
    first.

    Prefills are done one after another, answers go on beside each other at the replica's pace, and are taken to become
    as long as they may. KV blocks are not looked at: where those run out, requests wait longer.
    """

    def __init__(self, num_places: int, pace: Pace) -> None:
        self._free_s = [0.0] * num_places
        """When each place is free, in seconds from now; a heap."""
        self._prefilled_s = 0.0
        self._prompt_token_s = pace.prompt_token_s or 0.0
        self._answer_token_s = pace.answer_token_s or 0.0

    def add(self, prompt_tokens: int, answer_tokens: int) -> None:
        """A request behind all others; one that is running has no prompt to be prefilled."""
        if prompt_tokens:
            self._prefilled_s = self.wait_s + prompt_tokens * self._prompt_token_s
            start_s = self._prefilled_s
        else:
            start_s = self._free_s[0]
        heapq.heapreplace(self._free_s, start_s + answer_tokens * self._answer_token_s)

    @property
    def wait_s(self) -> float:
        """Seconds until the prefill of a further request could begin: a place is free, and those in front are done."""
        return max(self._free_s[0], self._prefilled_s)
