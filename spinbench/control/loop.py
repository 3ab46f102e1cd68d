"""The serving loop: turns events into jobs. The same for both engines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spinbench.control.context import RoundContext, RoundOutcome
from spinbench.control.draft_length import DraftLength
from spinbench.control.drafter import DrafterInfo
from spinbench.control.job import (
    Body,
    CatchUpJob,
    DraftJob,
    DraftResult,
    JobDone,
    PrefillJob,
    PrefillResult,
    TokenSpan,
    VerifyJob,
    VerifyResult,
)
from spinbench.control.kv_budget import KvBudget
from spinbench.control.layout import VerificationLayout
from spinbench.control.record import RoundRecord, RunRecord
from spinbench.control.recorder import Recorder
from spinbench.control.request_state import LastRound, RequestState
from spinbench.control.round import Round, RoundPart
from spinbench.control.scheduler import Scheduler
from spinbench.control.selector.protocol import Selector
from spinbench.workload.arrivals import ArrivalQueue


@dataclass(frozen=True, slots=True)
class LoopSetting:
    """What the loop decides with."""

    drafters: tuple[DrafterInfo, ...]
    selector: Selector
    draft_length: DraftLength
    layout: VerificationLayout
    eos_token_ids: frozenset[int]
    num_kv_blocks: int
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    finished_requests: int
    emitted_tokens: int


class ServingLoop:
    """Serves a queue of arrivals on a body and records what happened."""

    def __init__(
        self,
        setting: LoopSetting,
        body: Body,
        arrivals: ArrivalQueue,
        prompts: Mapping[str, tuple[int, ...]],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._setting = setting
        self._body = body
        self._arrivals = arrivals
        self._prompts = prompts
        self._on_progress = on_progress
        budget = KvBudget(setting.num_kv_blocks, setting.block_size)
        self._scheduler = Scheduler(budget, setting.max_num_seqs, setting.max_num_batched_tokens)
        self._recorder = Recorder(setting.drafters, body.now())
        self._round: Round | None = None
        self._prefilling = False
        self._num_rounds = 0
        self._finished_requests = 0
        self._emitted_tokens = 0

    def run(self) -> RunRecord:
        """Serve until every request is finished. Ctrl-C ends the run early with an incomplete record."""
        try:
            while self._arrivals or self._scheduler.num_outstanding:
                self._take_arrivals()
                if self._round is None and not self._prefilling:
                    self._start_work()
                deadline_s = self._arrivals.next_due_s(self._scheduler.num_outstanding)
                done = self._body.next_event(deadline_s)
                if done is not None:
                    self._handle(done)
        except KeyboardInterrupt:
            for state in (*self._scheduler.running, *self._scheduler.waiting):
                self._recorder.add_request(state, None, "aborted")
            return self._recorder.finish(self._body.now(), complete=False)
        return self._recorder.finish(self._body.now(), complete=True)

    def _take_arrivals(self) -> None:
        for request, arrival_s in self._arrivals.take_due(self._body.now(), self._scheduler.num_outstanding):
            setting = self._setting
            state = RequestState(
                request, self._prompts[request.id], arrival_s, len(setting.drafters), setting.block_size
            )
            self._scheduler.add(state)

    def _start_work(self) -> None:
        """Prefill newcomers if there are any, else start a round with all running requests."""
        headroom = self._setting.draft_length.max_num_speculative_tokens + 1
        admitted = self._scheduler.admit(self._body.now(), headroom)
        if admitted:
            self._prefilling = True
            self._body.submit(PrefillJob(tuple(TokenSpan(state, 0, state.num_tokens) for state in admitted)))
        elif self._scheduler.running:
            self._start_round()

    def _start_round(self) -> None:
        setting = self._setting
        batch = list(self._scheduler.running)
        contexts = [self._context(state, len(batch)) for state in batch]
        drafters = setting.selector.choose(contexts)
        lengths = setting.draft_length.lengths(contexts, drafters)
        # the bonus token is always emitted, so more than remaining - 1 drafted tokens could never be used
        lengths = [min(length, state.remaining_tokens - 1) for length, state in zip(lengths, batch, strict=True)]
        needed = [state.num_tokens + length for state, length in zip(batch, lengths, strict=True)]
        still_running = {id(state) for state in self._scheduler.reserve(batch, needed)}
        parts = [
            RoundPart(
                state=state,
                drafter=drafter if length > 0 else None,
                num_speculative_tokens=length,
                context_tokens=state.num_tokens,
                lookup_match_order=context.lookup_match_order,
            )
            for state, context, drafter, length in zip(batch, contexts, drafters, lengths, strict=True)
            if id(state) in still_running
        ]
        self._round = Round(
            self._num_rounds, parts, setting.drafters, setting.layout, setting.selector.needs_confidence
        )
        self._num_rounds += 1
        for job in self._round.first_jobs():
            self._body.submit(job)

    def _context(self, state: RequestState, batch_size: int) -> RoundContext:
        missing = tuple(
            state.num_tokens - kv_tokens if drafter.has_kv_cache else 0
            for drafter, kv_tokens in zip(self._setting.drafters, state.drafter_kv_tokens, strict=True)
        )
        return RoundContext(
            request_id=state.request.id,
            category=state.request.category,
            num_rounds=state.num_rounds,
            context_tokens=state.num_tokens,
            output_tokens=state.num_output_tokens,
            remaining_tokens=state.remaining_tokens,
            lookup_match_order=state.ngrams.match_order(),
            last_round=state.last_round,
            missing_kv_tokens=missing,
            batch_size=batch_size,
            num_waiting=len(self._scheduler.waiting),
        )

    def _handle(self, done: JobDone) -> None:
        job, result = done.job, done.result
        self._recorder.add_span(done, self._round.index if self._round else -1)
        if isinstance(job, PrefillJob) and isinstance(result, PrefillResult):
            self._prefilled(done, job, result)
        elif isinstance(job, CatchUpJob):
            for span in job.spans:
                span.state.drafter_kv_tokens[job.drafter] = span.stop
        elif isinstance(job, DraftJob) and isinstance(result, DraftResult) and self._round:
            verify = self._round.draft_done(done, job, result)
            if verify is not None:
                self._body.submit(verify)
        elif isinstance(job, VerifyJob) and isinstance(result, VerifyResult) and self._round:
            self._verified(done, self._round, result)
        else:
            raise TypeError(f"event of {type(job).__name__} with a result of {type(result).__name__}")

    def _prefilled(self, done: JobDone, job: PrefillJob, result: PrefillResult) -> None:
        self._prefilling = False
        for span, token in zip(job.spans, result.token_ids, strict=True):
            state = span.state
            state.num_prefill_emitted_tokens += 1
            if state.first_token_s is None:
                state.first_token_s = done.end_s
            self._commit(state, [token], done.end_s)
        self._report_progress()

    def _verified(self, done: JobDone, round_: Round, result: VerifyResult) -> None:
        outcomes = []
        for part, emitted in zip(round_.parts, result.emitted, strict=True):
            state = part.state
            kept = self._cut_at_end(state, list(emitted))
            accepted = len(kept) - 1
            if part.drafter is not None and part.drafted and not part.by_lookup:
                # the drafter never took its own last token in
                state.drafter_kv_tokens[part.drafter] = state.num_tokens + min(accepted, part.drafted - 1)
            state.last_round = LastRound(part.drafter, part.drafted, accepted, part.confidence)
            state.num_rounds += 1
            finished = self._commit(state, kept, done.end_s)
            draft_time_s = (part.draft_end_s or 0.0) - (part.draft_start_s or 0.0)
            outcomes.append(
                RoundOutcome(
                    request_id=state.request.id,
                    drafter=part.drafter,
                    drafted=part.drafted,
                    accepted=accepted,
                    draft_time_s=draft_time_s,
                    verify_time_s=done.end_s - done.start_s,
                    group_size=part.group_size,
                    finished=finished,
                )
            )
            self._record_part(round_, part, accepted, done)
        self._round = None
        self._setting.selector.observe(outcomes)
        self._report_progress()

    def _record_part(self, round_: Round, part: RoundPart, accepted: int, done: JobDone) -> None:
        self._recorder.add_round(
            RoundRecord(
                round_index=round_.index,
                request_id=part.state.request.id,
                drafter=None if part.drafter is None else self._setting.drafters[part.drafter].name,
                num_speculative_tokens=part.num_speculative_tokens,
                drafted=part.drafted,
                accepted=accepted,
                emitted=accepted + 1,
                context_tokens=part.context_tokens,
                lookup_match_order=part.lookup_match_order,
                catch_up_tokens=part.catch_up_tokens,
                batch_size=len(round_.parts),
                draft_start_s=part.draft_start_s,
                draft_end_s=part.draft_end_s,
                verify_start_s=done.start_s,
                verify_end_s=done.end_s,
            )
        )

    def _cut_at_end(self, state: RequestState, emitted: list[int]) -> list[int]:
        """Emitted tokens up to the end token, if one is among them."""
        if not state.request.ignore_eos:
            for position, token in enumerate(emitted):
                if token in self._setting.eos_token_ids:
                    return emitted[: position + 1]
        return emitted

    def _commit(self, state: RequestState, emitted: list[int], now_s: float) -> bool:
        """Add emitted tokens and finish the request if that ends it; returns whether it did."""
        state.append(emitted)
        self._emitted_tokens += len(emitted)
        stopped = not state.request.ignore_eos and emitted[-1] in self._setting.eos_token_ids
        if not stopped and state.remaining_tokens > 0:
            return False
        self._scheduler.finish(state)
        self._recorder.add_request(state, now_s, "stop" if stopped else "length")
        self._finished_requests += 1
        return True

    def _report_progress(self) -> None:
        if self._on_progress:
            self._on_progress(Progress(self._finished_requests, self._emitted_tokens))
