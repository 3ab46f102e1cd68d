"""A recording's table, drafter by drafter."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from spinbench.cli.engine.assemble import Assembly, sampling
from spinbench.cli.record.config import RecordConfig, plain_replay
from spinbench.cli.record.texts import RecordedTexts
from spinbench.cli.record.work import RecordWork, digest
from spinbench.cli.replay.provenance import utc_now, versions
from spinbench.errors import UserError
from spinbench.models.load import DrafterModel
from spinbench.runtime.recording.ngram_columns import ngram_columns
from spinbench.runtime.recording.teacher_forcing import score_texts
from spinbench.runtime.recording.written_texts import WrittenTexts
from spinbench.workload.acceptance.lookup import lookup_columns
from spinbench.workload.acceptance.ngram_model import NgramModel
from spinbench.workload.acceptance.table import AcceptanceTable, DrafterColumns
from spinbench.workload.acceptance.table_columns import SCORES
from spinbench.workload.acceptance.table_meta import DrafterMeta, ModelMeta, SamplingMeta, TableMeta, TraceMeta


def table_without_drafters(
    config: RecordConfig, assembly: Assembly, law: SamplingMeta, texts: RecordedTexts
) -> AcceptanceTable:
    """The answers with what prompt lookup does on them."""
    requests = texts.requests
    lookup = lookup_columns([assembly.prompts[name] for name in requests.ids], texts.token_ids, requests.offsets)
    meta = TableMeta(
        target=ModelMeta(name=assembly.target.name, sha256=assembly.target.weights_sha256),
        trace=TraceMeta(name=assembly.trace.name, sha256=assembly.trace.sha256),
        drafters=(),
        sampling=law,
        dtype=config.runtime.dtype,
        eos_token_ids=tuple(sorted(assembly.target.eos_token_ids)),
        use_chat_template=config.models.use_chat_template,
        versions=versions(),
        created=utc_now(),
        lookup_agreed=True,
    )
    return AcceptanceTable(
        meta,
        requests,
        texts.token_ids,
        lookup.match_order,
        lookup.lookup_run,
        {},
        lookup_agreed=lookup.lookup_agreed,
    )


def with_lookup_agreed(table: AcceptanceTable, assembly: Assembly) -> AcceptanceTable:
    """The table with how far copies agree, which those of before format 3 lack; itself where it has that.

    Raises UserError where prompt lookup finds other matches than are recorded: then the prompts are others.
    """
    if table.lookup_agreed is not None:
        return table
    requests = table.requests
    lookup = lookup_columns([assembly.prompts[name] for name in requests.ids], table.token_ids, requests.offsets)
    if not np.array_equal(lookup.match_order, table.match_order):
        raise UserError(
            f"{table.where}: prompt lookup finds other matches in these prompts than it recorded "
            "(models.use_chat_template?); record it again"
        )
    meta = table.meta.model_copy(update={"lookup_agreed": True})
    return _stamped(replace(table, meta=meta, lookup_agreed=lookup.lookup_agreed))


def record_drafter(
    table: AcceptanceTable,
    drafter: DrafterModel | NgramModel,
    config: RecordConfig,
    assembly: Assembly,
    work: RecordWork,
    rollout_tokens: int,
) -> AcceptanceTable:
    """The table with this drafter's columns, which are kept in `work` as well, or taken from there.

    Raises UserError for a drafter whose logits are not finite, and KeyboardInterrupt on Ctrl-C.
    """
    requests = table.requests
    texts = WrittenTexts(
        [assembly.prompts[name] for name in requests.ids],
        table.token_ids.astype(np.int64),
        requests.offsets,
        requests.seeds,
        requests.max_new_tokens,
    )
    if isinstance(drafter, NgramModel):
        columns = ngram_columns(drafter, texts, rollout_tokens)
        meta = DrafterMeta(
            name=drafter.name,
            kind="ngram",
            sha256=drafter.weights_sha256,
            macs_per_token=0,
            rollout_tokens=columns.num_rollout_tokens,
            copy_agreed=True,
        )
    else:
        columns = _model_columns(drafter, texts, table.meta.sampling, config, work, rollout_tokens)
        meta = DrafterMeta(
            name=drafter.name,
            sha256=drafter.weights_sha256,
            macs_per_token=drafter.macs_per_token,
            rollout_tokens=columns.num_rollout_tokens,
        )
    return _stamped(table.with_drafter(meta, columns))


def _model_columns(
    drafter: DrafterModel,
    texts: WrittenTexts,
    law: SamplingMeta,
    config: RecordConfig,
    work: RecordWork,
    rollout_tokens: int,
) -> DrafterColumns:
    """A model's columns, out of `work` where they were made from the same weights and texts."""
    name = "drafter-" + digest(
        drafter.weights_sha256, config.runtime.dtype, law.temperature, [list(prompt) for prompt in texts.prompts],
        texts.token_ids, texts.offsets, texts.seeds if law.temperature > 0 else None,
        *([rollout_tokens, texts.max_new_tokens] if rollout_tokens > 1 else []),
    )  # fmt: skip
    kept = work.load(name)
    if kept is not None:
        return DrafterColumns(**{score: kept[score] for score in SCORES}, rollout=kept.get("rollout"))
    with _progress(drafter.name, len(texts.token_ids)) as on_progress:
        law_of_texts = sampling(plain_replay(config))
        columns = score_texts(drafter, texts, law_of_texts, on_progress=on_progress, rollout_tokens=rollout_tokens)
    rollout = {} if columns.rollout is None else {"rollout": columns.rollout}
    work.save(name, {**{score: getattr(columns, score) for score in SCORES}, **rollout})
    return columns


def _stamped(table: AcceptanceTable) -> AcceptanceTable:
    return replace(table, meta=table.meta.model_copy(update={"versions": versions(), "created": utc_now()}))


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """A bar of positions; nothing where stderr is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as display:
        task = display.add_task(label, total=total)
        yield lambda done: display.update(task, completed=done)
