"""What `spinbench replay` does with each point of a sweep: check it, serve the trace, keep the results."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from rich.console import Console

from spinbench.cli.assemble import (
    Assembly,
    assemble,
    choose_device,
    drafter_infos,
    loop_setting,
    read_trace,
    sampling,
)
from spinbench.cli.hydra_app import Point
from spinbench.cli.interrupt import Interrupted, InterruptibleBody, uninterrupted
from spinbench.cli.model_shelf import ModelShelf
from spinbench.cli.progress import show_progress, show_stage
from spinbench.cli.provenance import run_meta
from spinbench.cli.schema import ReplayConfig, parse_config, resolved
from spinbench.cli.summary import print_summary
from spinbench.cli.warm_up import warm_up
from spinbench.control.record import RunRecord
from spinbench.errors import UserError
from spinbench.metrics.slo import parse_slo
from spinbench.metrics.store import SUMMARY_FILE, write_run
from spinbench.runtime.session import live_loop
from spinbench.workload.arrivals import ArrivalQueue


class Replay:
    """The command, with the models that its points share."""

    def __init__(self) -> None:
        self._shelf = ModelShelf()
        self._checked_traces: set[str] = set()

    def check(self, point: Point) -> None:
        """Raise UserError for what is wrong with config, folder or trace; loads no model."""
        config = parse_config(point.config, ReplayConfig)
        require_empty(point.folder)
        sampling(config)
        choose_device(config.engine)
        if config.slo is not None:
            parse_slo(config.slo)
        loop_setting(config, drafter_infos(config), frozenset(), num_blocks=1, num_requests=1)
        # points of a sweep mostly share their trace; prompts can be measured only with the target's tokenizer
        key = f"{config.trace}{config.arrivals}"
        if key not in self._checked_traces and config.trace.max_prompt_tokens is None:
            ArrivalQueue(read_trace(config, None).requests, config.arrivals)
            self._checked_traces.add(key)

    def run(self, point: Point) -> None:
        """Serve the trace and leave the results in the point's folder.

        Raises UserError, and Interrupted on Ctrl-C, which leaves finished requests' results marked partial.
        """
        config = parse_config(point.config, ReplayConfig)
        try:
            with _num_threads(config.engine.num_threads):
                with show_stage("loading the models"):
                    assembly = assemble(config, self._shelf)
                with show_stage("warming up"):
                    warm_up(assembly)
                record = serve(config, point, assembly)
                save(config, point, assembly, record)
        except (UserError, KeyboardInterrupt) as error:
            _remove_if_empty(point.folder)
            if isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted):
                raise Interrupted("no request was finished; nothing was written") from error
            raise


def serve(config: ReplayConfig, point: Point, assembly: Assembly) -> RunRecord:
    """Serve the trace. Ctrl-C ends it early with an incomplete record."""
    body = InterruptibleBody(assembly.body)
    queue = ArrivalQueue(assembly.trace.requests, config.arrivals)
    label = config.method or point.choices["selector"]
    with (
        show_progress(label, len(assembly.trace.requests), body.now) as on_progress,
        body.listening(),
    ):
        return live_loop(assembly.setting, assembly.body, queue, assembly.prompts, on_progress, body).run()


def save(config: ReplayConfig, point: Point, assembly: Assembly, record: RunRecord) -> None:
    """Write the run's folder and print its summary. Raises Interrupted for an incomplete record."""
    finished = sum(request.finish_reason != "aborted" for request in record.requests)
    if not record.complete and finished == 0:
        raise Interrupted("no request was finished; nothing was written")
    meta = run_meta(config, point, assembly)
    with uninterrupted():
        write_run(
            point.folder,
            record,
            config=resolved(point.config),
            meta=meta,
            texts=_texts(assembly, record),
            prompts={request.id: request.prompt for request in assembly.trace.requests if request.prompt is not None},
            slo_ms=parse_slo(config.slo) if config.slo is not None else None,
            expected_request_ids=assembly.prompts if record.complete else None,
        )
    if not record.complete:
        raise Interrupted(
            f"{finished} of {len(assembly.trace.requests)} requests were finished; their results, marked partial, are "
            f"in {point.folder}"
        )
    summary = json.loads((point.folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    print_summary(Console(), point.folder, summary, meta)


def require_empty(folder: Path) -> None:
    """Raise UserError unless the folder is empty or not there yet: results are never mixed or overwritten."""
    if folder.is_dir():
        names = sorted(path.name for path in folder.iterdir())
        if SUMMARY_FILE in names:
            raise UserError(f"{folder}: holds a run already; delete it, or set hydra.run.dir to another folder")
        if names:
            raise UserError(f"{folder}: is not empty ({names[0]}); set hydra.run.dir to another folder")
    elif folder.exists():
        raise UserError(f"{folder}: is a file; set hydra.run.dir to a folder")


def _texts(assembly: Assembly, record: RunRecord) -> dict[str, str] | None:
    tokenizer = assembly.target.tokenizer
    if tokenizer is None:
        return None
    return {
        request.request_id: str(tokenizer.decode(list(request.output_token_ids), skip_special_tokens=True))
        for request in record.requests
    }


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds something, or was never made
        folder.rmdir()


@contextmanager
def _num_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
