"""Collects what happened, in the order it happened, into a `RunRecord`."""

from collections.abc import Sequence
from math import isnan

from spinbench.control.arrays import IntArray
from spinbench.control.drafting.ready_drafts import NO_JOB
from spinbench.control.jobs.body import JobDone
from spinbench.control.jobs.draft_series import SeriesDone
from spinbench.control.records.round_log import RoundLog
from spinbench.control.records.run_record import FinishReason, RequestRecord, RunRecord
from spinbench.control.records.span_log import SpanLog
from spinbench.control.request_table import RequestTable
from spinbench.control.rounds.round import Round
from spinbench.control.text import Text


class Recorder:
    """Puts requests, rounds and jobs away as they end."""

    def __init__(self, table: RequestTable, text: Text, drafters: Sequence[str], start_s: float) -> None:
        """`drafters` are the names that the rounds' numbers of drafters stand for."""
        self._table = table
        self._text = text
        self._drafters = tuple(drafters)
        self._start_s = start_s
        self._requests: list[RequestRecord] = []
        self._rounds = RoundLog()
        self._spans = SpanLog()

    def add_span(self, done: JobDone, round_index: int, ahead_job: int = NO_JOB) -> None:
        """A job that ended; `ahead_job` is its number if it drafted ahead."""
        self._spans.add(done, round_index, ahead_job)

    def add_series(self, done: SeriesDone, round_index: int) -> None:
        """All drafts of a round, which were made at one go."""
        self._spans.add_series(done, round_index)

    def add_round(self, round_: Round, accepted: IntArray, done: JobDone) -> None:
        """A round whose verification is `done`."""
        self._rounds.add(round_, accepted, done)
        if round_.ready is not None:
            self._spans.use(round_.ready)

    def add_request(self, row: int, finish_s: float | None, reason: FinishReason) -> None:
        """A request that ended."""
        table, request = self._table, self._table.requests[row]
        output_tokens = int(table.num_tokens[row] - table.num_prompt_tokens[row])
        self._requests.append(
            RequestRecord(
                request_id=request.id,
                category=request.category,
                seed=request.seed,
                arrival_s=float(table.arrival_s[row]),
                first_scheduled_s=_known(table.first_scheduled_s[row]),
                first_token_s=_known(table.first_token_s[row]),
                finish_s=finish_s,
                prompt_tokens=int(table.num_prompt_tokens[row]),
                output_tokens=output_tokens,
                max_new_tokens=request.max_new_tokens,
                finish_reason=reason,
                num_preemptions=int(table.num_preemptions[row]),
                num_prefill_emitted_tokens=int(table.num_prefill_emitted_tokens[row]),
                prompt_token_ids=self._text.prompt_token_ids(row),
                output_token_ids=self._text.output_token_ids(row, output_tokens),
            )
        )

    def finish(self, end_s: float, complete: bool) -> RunRecord:
        """Everything recorded. To be called once."""
        request_ids = tuple(request.id for request in self._table.requests)
        return RunRecord(
            requests=tuple(self._requests),
            rounds=self._rounds.columns(request_ids, self._drafters),
            spans=self._spans.columns(request_ids),
            drafters=self._drafters,
            start_s=self._start_s,
            end_s=end_s,
            complete=complete,
        )


def _known(time_s: float) -> float | None:
    return None if isnan(time_s) else float(time_s)
