"""Serves a trace with Hugging Face's `generate`: static batches, first come first served, recorded as our runs are."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.control.batch_limits import BatchLimits
from spinbench.control.jobs.body import Body, JobDone, KnownTimes
from spinbench.control.jobs.job import Job, PrefillJob, TokenSpans
from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.control.jobs.result import DidNotFit
from spinbench.control.loop import Progress
from spinbench.control.records.round_record import RoundColumns
from spinbench.control.records.run_record import FinishReason, RequestRecord, RunRecord
from spinbench.control.records.span_chunk import OUT_OF_MEMORY
from spinbench.control.records.span_record import SpanColumns, SpanKind, SpanRecord
from spinbench.runtime.huggingface.generator import Answers, HuggingFaceGenerator
from spinbench.runtime.lanes.sleeping import sleep_until
from spinbench.runtime.out_of_memory import if_it_fits
from spinbench.workload.arrivals import ArrivalQueue
from spinbench.workload.request import Request

LOG = logging.getLogger(__name__)


class GenerateBody:
    """A body whose only job is a prefill that it carries on to the end of all answers: `generate` knows no halt."""

    def __init__(
        self,
        generator: HuggingFaceGenerator,
        requests: tuple[Request, ...],
        prompts: Mapping[str, tuple[int, ...]],
        device: torch.device,
    ) -> None:
        self._generator = generator
        self._requests = requests
        self._prompts = prompts
        self._device = device
        self._job: PrefillJob | None = None
        self.answers = Answers((), (), float("nan"))
        """Of the last job; its time is on this body's clock."""
        self._start_s = time.perf_counter()

    def now(self) -> float:
        """Seconds since this body was made."""
        return time.perf_counter() - self._start_s

    def submit(self, job: Job) -> None:
        """Take a batch, by the rows of its requests. Raises TypeError for anything else."""
        if not isinstance(job, PrefillJob):
            raise TypeError(f"generate takes whole prompts, not a {type(job).__name__}")
        self._job = job

    def next_event(self, deadline_s: float | None) -> JobDone | None:
        """Answer the batch, or sleep until the deadline if there is none; `DidNotFit` where memory does not suffice."""
        if self._job is None:
            if deadline_s is None:
                raise RuntimeError("no job in flight and nothing to wait for")
            sleep_until(deadline_s, self.now)
            return None
        job, self._job = self._job, None
        requests = [self._requests[row] for row in job.spans.rows.tolist()]
        start_s = self.now()
        answered = if_it_fits(partial(self._answer, requests))
        return JobDone(job, None if answered else DidNotFit(), TARGET_LANE, KnownTimes(start_s, self.now()))

    def release(self, rows: IntArray) -> None:
        """Nothing: each call has a cache of its own."""

    def forget(self, rows: IntArray) -> None:
        """Nothing is drafted."""

    def _answer(self, requests: Sequence[Request]) -> None:
        answers = self._generator.generate(requests, [self._prompts[request.id] for request in requests])
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.answers = replace(answers, first_token_s=answers.first_token_s - self._start_s)


class StaticBatchLoop:
    """Gives `generate` as many waiting requests as a batch holds, whenever it is free.

    A batch takes nobody in until it ends, and all its answers are there when it ends: with the longest of them. What a
    device has too little memory for is done again in smaller batches, by the runtime's rules.
    """

    def __init__(
        self,
        body: GenerateBody,
        interface: Body,
        queue: ArrivalQueue,
        prompts: Mapping[str, tuple[int, ...]],
        max_num_seqs: int,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._body = body
        self._interface = interface
        self._queue = queue
        self._prompts = prompts
        self._limits = BatchLimits(max_num_seqs, 1)  # whole prompts, whatever their tokens
        self._on_progress = on_progress
        self._row_of = {request.id: row for row, request in enumerate(queue.requests)}
        self._waiting: deque[tuple[Request, float]] = deque()
        self._requests: list[RequestRecord] = []
        self._spans: list[SpanRecord] = []

    def run(self) -> RunRecord:
        """Serve until every request is finished. Ctrl-C ends the run early with an incomplete record."""
        start_s, time_s, complete = self._interface.now(), 0.0, True
        batch: list[tuple[Request, float]] = []
        try:
            while self._queue or self._waiting:
                self._waiting.extend(self._queue.take_due(time_s, len(self._waiting)))
                batch = [self._waiting.popleft() for _ in range(min(self._limits.round_requests, len(self._waiting)))]
                if batch:
                    self._interface.submit(self._job(batch))
                deadline_s = None if batch else self._queue.next_due_s(0)
                done = self._interface.next_event(deadline_s)
                if done is not None:
                    take_in = self._did_not_fit if isinstance(done.result, DidNotFit) else self._finished
                    take_in(batch, done)
                    batch = []
                time_s = done.end_s if done else deadline_s or time_s
        except KeyboardInterrupt:
            complete = False
            for request, arrival_s in (*batch, *self._waiting):
                self._requests.append(self._record(request, arrival_s, (), "aborted", None, None, None))
        return RunRecord(
            requests=tuple(self._requests),
            rounds=RoundColumns.of([]),
            spans=SpanColumns.of(self._spans),
            drafters=(),
            start_s=start_s,
            end_s=self._interface.now(),
            complete=complete,
        )

    def _job(self, batch: list[tuple[Request, float]]) -> PrefillJob:
        rows = np.array([self._row_of[request.id] for request, _ in batch], np.int64)
        lengths = np.array([len(self._prompts[request.id]) for request, _ in batch], np.int64)
        return PrefillJob(TokenSpans(rows, np.zeros_like(rows), lengths))

    def _finished(self, batch: list[tuple[Request, float]], done: JobDone) -> None:
        self._limits.fitted()
        answers = self._body.answers
        times = (done.start_s, answers.first_token_s, done.end_s)
        for (request, arrival_s), token_ids, stopped in zip(batch, answers.token_ids, answers.stopped, strict=True):
            reason = "stop" if stopped else "length"
            self._requests.append(self._record(request, arrival_s, token_ids, reason, *times))
        self._add_span("generate", done, sum(map(len, answers.token_ids)))
        self._tell()

    def _did_not_fit(self, batch: list[tuple[Request, float]], done: JobDone) -> None:
        self._add_span(OUT_OF_MEMORY, done, 0)
        if self._limits.retry_round(done.job, len(batch), has_company=False):
            self._waiting.extendleft(reversed(batch))
            return
        ((request, arrival_s),) = batch
        LOG.warning(
            "request %r is given up: Hugging Face's generate is out of memory with it alone, a prompt of %d tokens "
            "and an answer of at most %d; lower trace.max_prompt_tokens or trace.max_output_tokens",
            request.id, len(self._prompts[request.id]), request.max_new_tokens,
        )  # fmt: skip
        self._requests.append(self._record(request, arrival_s, (), "out_of_memory", done.start_s, None, done.end_s))
        self._tell()

    def _add_span(self, kind: SpanKind, done: JobDone, num_answer_tokens: int) -> None:
        """Cells are not counted: what `generate` computes inside is its own affair."""
        names = tuple(self._queue.requests[row].id for row in done.job.spans.rows.tolist())
        num_tokens = int(done.job.spans.num_tokens.sum()) + num_answer_tokens
        self._spans.append(SpanRecord(done.lane, kind, done.start_s, done.end_s, -1, names, num_tokens, 0, 0))

    def _tell(self) -> None:
        if self._on_progress:
            self._on_progress(Progress(len(self._requests), sum(part.output_tokens for part in self._requests)))

    def _record(
        self,
        request: Request,
        arrival_s: float,
        token_ids: tuple[int, ...],
        reason: FinishReason,
        start_s: float | None,
        first_token_s: float | None,
        end_s: float | None,
    ) -> RequestRecord:
        return RequestRecord(
            request_id=request.id,
            category=request.category,
            seed=request.seed,
            arrival_s=arrival_s,
            first_scheduled_s=start_s,
            first_token_s=first_token_s,
            finish_s=end_s,
            prompt_tokens=len(self._prompts[request.id]),
            output_tokens=len(token_ids),
            max_new_tokens=request.max_new_tokens,
            finish_reason=reason,
            num_preemptions=0,
            num_prefill_emitted_tokens=len(token_ids),
            prompt_token_ids=self._prompts[request.id],
            output_token_ids=token_ids,
        )
