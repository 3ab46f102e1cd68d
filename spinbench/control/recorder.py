"""Collects what happened, in the order it happened, into a `RunRecord`."""

from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import CatchUpJob, DraftJob, JobDone, PrefillJob, VerifyJob
from spinbench.control.record import FinishReason, RequestRecord, RoundRecord, RunRecord, SpanRecord
from spinbench.control.request_state import RequestState


class Recorder:
    """Grows lists of records during a run; cheap enough for the hot path (a few records per round)."""

    def __init__(self, drafters: tuple[DrafterInfo, ...], start_s: float) -> None:
        self._drafters = drafters
        self._start_s = start_s
        self._requests: list[RequestRecord] = []
        self._rounds: list[RoundRecord] = []
        self._spans: list[SpanRecord] = []

    def add_span(self, done: JobDone, round_index: int) -> None:
        """A job that ended. Cells of prefill, catch-up and draft are those of ragged rows: none is padded."""
        job = done.job
        useful, padded = 0, 0
        match job:
            case PrefillJob(spans):
                kind, states = "prefill", [span.state for span in spans]
                num_tokens = sum(span.num_tokens for span in spans)
                useful = sum(span.num_tokens * span.stop for span in spans)
            case CatchUpJob(_, spans):
                kind, states = "catch_up", [span.state for span in spans]
                num_tokens = sum(span.num_tokens for span in spans)
                useful = sum(span.num_tokens * span.stop for span in spans)
            case DraftJob(_, items):
                kind, states = "draft", [item.span.state for item in items]
                items = [item for item in items if not item.by_lookup]
                # the last drafted token is not fed back
                num_tokens = sum(item.span.num_tokens + item.num_speculative_tokens - 1 for item in items)
                useful = sum(
                    _draft_cells(item.span.num_tokens, item.span.stop, item.num_speculative_tokens) for item in items
                )
            case VerifyJob(items, layout):
                kind, states = "verify", [item.state for item in items]
                num_tokens = sum(layout.query_tokens)
                useful, padded = layout.useful_cells, layout.padded_cells
        request_ids = tuple(state.request.id for state in states)
        self._spans.append(
            SpanRecord(done.lane, kind, done.start_s, done.end_s, round_index, request_ids, num_tokens, useful, padded)
        )

    def add_round(self, record: RoundRecord) -> None:
        """One request's part in a finished round."""
        self._rounds.append(record)

    def add_request(self, state: RequestState, finish_s: float | None, reason: FinishReason) -> None:
        """A request that ended."""
        self._requests.append(
            RequestRecord(
                request_id=state.request.id,
                category=state.request.category,
                seed=state.request.seed,
                arrival_s=state.arrival_s,
                first_scheduled_s=state.first_scheduled_s,
                first_token_s=state.first_token_s,
                finish_s=finish_s,
                prompt_tokens=state.num_prompt_tokens,
                output_tokens=state.num_output_tokens,
                max_new_tokens=state.request.max_new_tokens,
                finish_reason=reason,
                num_preemptions=state.num_preemptions,
                num_prefill_emitted_tokens=state.num_prefill_emitted_tokens,
                prompt_token_ids=tuple(state.token_ids(0, state.num_prompt_tokens).tolist()),
                output_token_ids=state.output_token_ids(),
            )
        )

    def finish(self, end_s: float, complete: bool) -> RunRecord:
        """Everything recorded."""
        return RunRecord(
            requests=tuple(self._requests),
            rounds=tuple(self._rounds),
            spans=tuple(self._spans),
            drafters=tuple(drafter.name for drafter in self._drafters),
            start_s=self._start_s,
            end_s=end_s,
            complete=complete,
        )


def _draft_cells(known_tokens: int, context_tokens: int, num_speculative_tokens: int) -> int:
    """Cells of one request's draft: the known tokens in one pass, then one row per further token."""
    steps = num_speculative_tokens - 1
    return known_tokens * context_tokens + steps * context_tokens + steps * (steps + 1) // 2
