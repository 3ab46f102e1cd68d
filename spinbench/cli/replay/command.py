"""What `spinbench replay` does with each point of a sweep: check it, serve the trace, keep the results."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from spinbench.cli.config.replay import ReplayConfig, parse_config, run_config
from spinbench.cli.config.sink import make_sink
from spinbench.cli.engine.decisions import read_trace
from spinbench.cli.engine.session import Session
from spinbench.cli.hydra_app.app import Point
from spinbench.cli.hydra_app.override_value import key_of, section_of
from spinbench.cli.interrupt import Interrupted, InterruptibleBody, uninterrupted
from spinbench.cli.out_folder import remove_if_empty, require_empty
from spinbench.cli.progress import Report, show_progress
from spinbench.cli.replay.provenance import CodeFacts, run_meta
from spinbench.cli.replay.summary import print_summary
from spinbench.control.jobs.body import Body
from spinbench.control.records.run_record import COMPLETED, RunRecord
from spinbench.control.records.span_chunk import OUT_OF_MEMORY
from spinbench.errors import UserError
from spinbench.metrics.slo import parse_slo
from spinbench.metrics.store import write_run
from spinbench.report.sink.protocol import read_finished
from spinbench.workload.arrivals import ArrivalQueue


class Engine(Protocol):
    """Makes sessions; keeps what they share (models, profiles)."""

    def check(self, config: ReplayConfig) -> None:
        """Raise UserError for what is wrong with the engine's part of the config, and with decisions on it."""
        ...

    def session(self, config: ReplayConfig) -> AbstractContextManager[Session]:
        """A session that is ready to start. Raises UserError, and KeyboardInterrupt on Ctrl-C."""
        ...


@dataclass(frozen=True)
class Saved:
    """A run that was kept, as it says itself."""

    summary: dict[str, Any]
    meta: dict[str, Any]


ShowProgress = Callable[[str, int, Callable[[], float]], AbstractContextManager[Report | None]]
"""See `show_progress`."""


class Replay:
    """The command, with what its points share."""

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}
        self._checked_traces: set[str] = set()

    @cached_property
    def code(self) -> CodeFacts:
        """What runs here."""
        return CodeFacts.here()

    def check(self, point: Point) -> None:
        """Raise UserError for what is wrong with config, folder or trace; loads no model."""
        config = parse_config(point.config, ReplayConfig)
        _refuse_sweep_keys(point.overrides)
        require_empty(point.folder)
        make_sink(config.sink)
        self.check_config(config)

    def check_config(self, config: ReplayConfig) -> None:
        """Raise UserError for what is wrong with config or trace; loads no model."""
        engine = self._engine(config)
        engine.check(config)
        if config.slo is not None:
            parse_slo(config.slo)
        # points of a sweep mostly share their trace; prompts can be measured only with the target's tokenizer
        key = f"{config.trace}{config.arrivals}"
        if key not in self._checked_traces and config.trace.max_prompt_tokens is None:
            ArrivalQueue(read_trace(config, None).requests, config.arrivals)
            self._checked_traces.add(key)

    def run(self, point: Point) -> None:
        """Serve the trace, leave the results in the point's folder and print how fast it was.

        Raises UserError, and Interrupted on Ctrl-C, which leaves finished requests' results marked partial.
        """
        config = parse_config(point.config, ReplayConfig)
        saved = self.serve(config, point, show_progress)
        if saved is None:
            return
        print_saved(point.folder, saved)
        sink = make_sink(config.sink)
        if sink is not None:
            sink.send(read_finished(point.folder))

    def serve(self, config: ReplayConfig, point: Point, show: ShowProgress) -> Saved | None:
        """Serve the trace and leave the results in the point's folder; None where another process does.

        Raises as `run`.
        """
        try:
            with self._engine(config).session(config) as session:
                begun_s = time.perf_counter()
                record = serve(config, point, session, show)
                if not session.writes:
                    remove_if_empty(point.folder)
                    return None
                return save(config, point, session, record, time.perf_counter() - begun_s, self.code)
        except (UserError, KeyboardInterrupt) as error:
            remove_if_empty(point.folder)
            if isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted):
                raise Interrupted("no request was finished; nothing was written") from error
            raise

    def _engine(self, config: ReplayConfig) -> Engine:
        kind = config.engine.kind
        if kind not in self._engines:
            # imported on demand: the simulator runs where torch is not installed
            if kind == "runtime":
                from spinbench.cli.engine.live import LiveEngine

                self._engines[kind] = LiveEngine()
            elif kind == "huggingface":
                from spinbench.cli.engine.huggingface import HuggingFaceEngine

                self._engines[kind] = HuggingFaceEngine()
            else:
                from spinbench.cli.engine.simulated import SimulatedEngine

                self._engines[kind] = SimulatedEngine()
        return self._engines[kind]


def serve(config: ReplayConfig, point: Point, session: Session, show: ShowProgress = show_progress) -> RunRecord:
    """Serve the trace. Ctrl-C ends it early with an incomplete record."""
    guards: list[InterruptibleBody] = []

    def guarded(body: Body) -> Body:
        guards.append(InterruptibleBody(body))
        return guards[0]

    label = config.method or point.choices["selector"]
    with show(label, len(session.trace.requests), lambda: guards[0].now()) as on_progress:
        loop = session.make_loop(on_progress, guarded)
        with guards[0].listening():
            return loop.run()


def save(
    config: ReplayConfig, point: Point, session: Session, record: RunRecord, wall_s: float, code: CodeFacts
) -> Saved:
    """Write the run's folder; serving took `wall_s` seconds of real time.

    Raises Interrupted for an incomplete record.
    """
    finished = sum(request.finish_reason in COMPLETED for request in record.requests)
    if not record.complete and finished == 0:
        raise Interrupted("no request was finished; nothing was written")
    requests = session.trace.requests
    meta = {
        **run_meta(config, point, session, code),
        "wall_s": round(wall_s, 3),
        **session.judge(record),
        "warnings": [*session.warnings(), *_memory_warnings(record)],
    }
    with uninterrupted():
        summary = write_run(
            point.folder,
            record,
            config=run_config(point.config),
            meta=meta,
            texts=_texts(session, record),
            prompts={request.id: request.prompt for request in requests if request.prompt is not None},
            slo_ms=parse_slo(config.slo) if config.slo is not None else None,
            expected_request_ids=[request.id for request in requests] if record.complete else None,
            keep=config.keep,
        )
    if not record.complete:
        raise Interrupted(
            f"{finished} of {len(requests)} requests were finished; their results, marked partial, are in "
            f"{point.folder}"
        )
    return Saved(summary, meta)


def print_saved(folder: Path, saved: Saved) -> None:
    """Print how fast a run was, where it is, and what to mind of it."""
    for warning in saved.meta["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print_summary(Console(), folder, saved.summary, saved.meta)


def _refuse_sweep_keys(overrides: Sequence[str]) -> None:
    """Raise UserError for keys of sweeps in a run that is none."""
    for override in overrides:
        if section_of(override) in ("sweep", "launcher"):
            raise UserError(f"{key_of(override)} is of sweeps, and this is one run: add -m, or leave it out")


def _memory_warnings(record: RunRecord) -> list[str]:
    """What did not fit on the devices, a line each."""
    num_jobs = record.spans.kind.count(OUT_OF_MEMORY)
    given_up = [request.request_id for request in record.requests if request.finish_reason == "out_of_memory"]
    lines = [f"{num_jobs} of {len(record.spans)} jobs were out of memory, and done again in smaller batches"]
    if given_up:
        where = f"{len(given_up)} of {len(record.requests)} requests"
        lines.append(f"{where} were given up, out of memory even alone: {given_up[0]!r} was the first")
    return lines if num_jobs else []


def _texts(session: Session, record: RunRecord) -> dict[str, str] | None:
    if session.decode is None:
        return None
    return {request.request_id: session.decode(request.output_token_ids) for request in record.requests}
