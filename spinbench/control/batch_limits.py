"""How much is done at once: as much as the config allows, until a device has too little memory for it."""

import logging

from spinbench.control.jobs.job import Job, PrefillJob
from spinbench.control.records.span_chunk import kind_of

LOG = logging.getLogger(__name__)
JOBS_BEFORE_MORE = 100
"""Rounds and prefills that fit before more is tried: one in a hundred may be in vain, and a peak is soon forgotten."""


class BatchLimits:
    """Requests of a round and tokens of a prefill, at the most.

    A job runs out of memory for what it works with: activations, logits, copies of keys. That grows with its requests
    and tokens. KV is not the cause, as its pool is there from the start; a preemption would free nothing and cost a
    prefill. So nobody is preempted where a job does not fit: it is done again with half as much, running requests take
    turns in smaller rounds, and nothing larger is tried before `JOBS_BEFORE_MORE` others fitted. A request that does
    not fit alone is tried once more with nothing beside it, and then given up. That it was the cause may be, so all
    limits are lifted then.
    """

    def __init__(self, max_num_seqs: int, max_num_batched_tokens: int) -> None:
        """The limits of the config."""
        self._most_requests = max_num_seqs
        self._most_tokens = max_num_batched_tokens
        self._told: set[str] = set()
        self._set(max_num_seqs, max_num_batched_tokens)

    def _set(self, round_requests: int, prefill_tokens: int, one_at_a_time: bool = False) -> None:
        self.round_requests = min(round_requests, self._most_requests)
        """Of each round, >= 1."""
        self.prefill_tokens = min(prefill_tokens, self._most_tokens)
        """Of each prefill, unless it is of one request."""
        self.one_at_a_time = one_at_a_time
        """Whether nothing may be under way beside a round or a prefill."""
        are_lifted = self.round_requests == self._most_requests and self.prefill_tokens == self._most_tokens
        self._are_lifted = are_lifted and not one_at_a_time
        self._num_fitted = 0

    def fitted(self) -> None:
        """A round or a prefill is done."""
        if self._are_lifted:
            return
        self._num_fitted += 1
        if self._num_fitted == JOBS_BEFORE_MORE:
            self._set(2 * self.round_requests, 2 * self.prefill_tokens)

    def retry_round(self, job: Job, num_requests: int, has_company: bool) -> bool:
        """Whether to try again where `job`, of a round of so many requests, did not fit; if not, its one is given up.

        `has_company`: other rounds or a prefill are under way.
        """
        if num_requests > 1:
            self._set((num_requests + 1) // 2, self.prefill_tokens, self.one_at_a_time)
            self._tell(job, f"requests are taken {self.round_requests} together at the most")
            return True
        return self._retry_alone(job, has_company)

    def retry_prefill(self, job: PrefillJob, has_company: bool) -> bool:
        """The same for a prefill."""
        count = len(job.spans)
        if count > 1:
            older = job.spans.num_tokens[: (count + 1) // 2]
            self._set(self.round_requests, int(older.sum()), self.one_at_a_time)
            self._tell(job, f"prefills have {self.prefill_tokens} tokens at the most")
            return True
        return self._retry_alone(job, has_company)

    def _retry_alone(self, job: Job, has_company: bool) -> bool:
        if has_company:
            self._set(self.round_requests, self.prefill_tokens, one_at_a_time=True)
            self._tell(job, "nothing is done beside a round or a prefill")
        else:
            self._set(self._most_requests, self._most_tokens)
        return has_company

    def _tell(self, job: Job, consequence: str) -> None:
        if consequence not in self._told:
            self._told.add(consequence)
            what = f"a {kind_of(job)} job of {len(job.spans)} requests"
            LOG.warning("out of memory in %s: %s for now", what, consequence)
