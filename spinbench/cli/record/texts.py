"""The answers that a recording is about: newly served, out of a finished run, or those of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spinbench.cli.engine.assemble import Assembly
from spinbench.cli.interrupt import InterruptibleBody
from spinbench.cli.progress import show_progress
from spinbench.cli.record.work import RecordWork, digest
from spinbench.control.records.run_record import COMPLETED
from spinbench.errors import UserError
from spinbench.metrics.store import read_run
from spinbench.runtime.session import live_loop
from spinbench.workload.acceptance.table import AcceptanceTable, RecordedRequests
from spinbench.workload.acceptance.table_meta import SamplingMeta
from spinbench.workload.arrivals import ArrivalPattern, ArrivalQueue
from spinbench.workload.request import Request


@dataclass(frozen=True, eq=False)
class RecordedTexts:
    """The target's answers to a trace."""

    requests: RecordedRequests
    token_ids: npt.NDArray[np.int32]
    """[positions]"""


def served_texts(assembly: Assembly, dtype: str, sampling: SamplingMeta, work: RecordWork) -> RecordedTexts:
    """The answers by plain decoding, all requests at once; kept in `work`. Raises KeyboardInterrupt on Ctrl-C."""
    requests, prompts = assembly.trace.requests, assembly.prompts
    facts = [[r.id, r.max_new_tokens, r.ignore_eos, r.seed, list(prompts[r.id])] for r in requests]
    name = "texts-" + digest(assembly.target.weights_sha256, dtype, sampling.model_dump(), facts)
    kept = work.load(name)
    if kept is None:
        kept = _serve(assembly)
        work.save(name, kept)
    answers = np.split(kept["token_ids"], np.cumsum(kept["output_tokens"])[:-1])
    return _texts(requests, prompts, answers, kept["stopped"].tolist())


def texts_of_run(folder: Path, assembly: Assembly, sampling: SamplingMeta) -> RecordedTexts:
    """The answers of a finished run, by whatever selector: speculation changes none.

    Raises UserError when it is of another target, trace or sampling, or lacks a request.
    """
    run = read_run(folder)
    if not run.complete:
        raise UserError(f"{folder}: the run was interrupted; from_run needs a complete one")
    meta: Mapping[str, Any] = run.meta
    found = (meta.get("models", {}).get("target", {}).get("sha256"), meta.get("trace", {}).get("sha256"))
    for what, ours, theirs in (
        ("target", assembly.target.weights_sha256, found[0]),
        ("trace", assembly.trace.sha256, found[1]),
    ):
        if theirs != ours:
            raise UserError(f"{folder}: is a run of another {what} (digest {str(theirs)[:12]}, here {ours[:12]})")
    law = dict(meta.get("sampling", {}))
    if law.pop("kind", None) == "rejection" and law.get("temperature"):
        raise UserError(f"{folder}: is a run with sampling=rejection, whose answers depend on who drafted")
    theirs = SamplingMeta.model_validate(law)
    if not sampling.same_law(theirs):
        raise UserError(f"{folder}: is a run with sampling {theirs}, not {sampling}")
    rows = {row["request_id"]: row for row in run.requests.to_dict("records")}
    answers, stopped = [], []
    for request in assembly.trace.requests:
        if request.id not in rows:
            raise UserError(f"{folder}: lacks request {request.id!r}; give the same trace.* options as the run had")
        row = rows[request.id]
        if row["finish_reason"] not in COMPLETED:
            raise UserError(f"{folder}: request {request.id!r} was given up, out of memory; from_run needs all answers")
        if tuple(row["prompt_token_ids"]) != assembly.prompts[request.id]:
            raise UserError(f"{folder}: request {request.id!r} had other prompt tokens (models.use_chat_template?)")
        if row["max_new_tokens"] != request.max_new_tokens:
            raise UserError(
                f"{folder}: request {request.id!r} had max_new_tokens {row['max_new_tokens']}, here "
                f"{request.max_new_tokens}; give the same trace.* options as the run had"
            )
        answers.append(np.asarray(row["output_token_ids"], np.int32))
        stopped.append(row["finish_reason"] == "stop")
    return _texts(assembly.trace.requests, assembly.prompts, answers, stopped)


def check_table_texts(table: AcceptanceTable, assembly: Assembly) -> None:
    """Raise UserError unless a table's answers are to the requests of the trace."""
    asked, recorded = {request.id for request in assembly.trace.requests}, set(table.requests.ids)
    for name in sorted(asked ^ recorded):
        raise UserError(
            f"{table.where}: {'lacks request' if name in asked else 'holds another request,'} {name!r}; give the same "
            "trace.* options as when it was recorded"
        )
    for name, tokens in zip(table.requests.ids, table.requests.prompt_tokens.tolist(), strict=True):
        if len(assembly.prompts[name]) != tokens:
            raise UserError(
                f"{table.where}: request {name!r} had {tokens} prompt tokens, here {len(assembly.prompts[name])} "
                "(models.use_chat_template?)"
            )


def _serve(assembly: Assembly) -> dict[str, np.ndarray]:
    queue = ArrivalQueue(assembly.trace.requests, ArrivalPattern(kind="all_at_once"))
    guarded = InterruptibleBody(assembly.body)
    with (
        show_progress("answering", len(assembly.trace.requests), guarded.now) as on_progress,
        guarded.listening(),
    ):
        record = live_loop(assembly.setting, assembly.body, queue, assembly.prompts, on_progress, guarded).run()
    if not record.complete:
        raise KeyboardInterrupt
    answers = {request.request_id: request for request in record.requests}
    ordered = [answers[request.id] for request in assembly.trace.requests]
    for answer in ordered:
        if answer.finish_reason not in COMPLETED:
            raise UserError(
                f"request {answer.request_id!r} is out of memory even alone, so its answer is not known; lower "
                "kv.gpu_memory_utilization or trace.max_prompt_tokens"
            )
    return {
        "token_ids": np.concatenate([np.array(answer.output_token_ids, np.int32) for answer in ordered]),
        "output_tokens": np.array([answer.output_tokens for answer in ordered], np.int64),
        "stopped": np.array([answer.finish_reason == "stop" for answer in ordered]),
    }


def _texts(
    requests: Sequence[Request],
    prompts: Mapping[str, Sequence[int]],
    answers: Sequence[npt.NDArray[np.int32]],
    stopped: Sequence[bool],
) -> RecordedTexts:
    rows = RecordedRequests(
        ids=tuple(request.id for request in requests),
        prompt_tokens=np.array([len(prompts[request.id]) for request in requests], np.int64),
        max_new_tokens=np.array([request.max_new_tokens for request in requests], np.int64),
        stopped=np.array(stopped, np.bool_),
        ignores_eos=np.array([request.ignore_eos for request in requests], np.bool_),
        seeds=np.array([request.seed for request in requests], np.int64),
        categories=tuple(request.category for request in requests),
        offsets=np.cumsum([0, *map(len, answers)]).astype(np.int64),
    )
    return RecordedTexts(rows, np.concatenate(answers).astype(np.int32))
