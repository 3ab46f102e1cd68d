"""Streams of requests that are recorded: exact."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spinbench.errors import UserError
from spinbench.workload.acceptance.accepted_runs import cut_at_end, run_lengths, stretches
from spinbench.workload.acceptance.drafter_name import is_ngram, models_of
from spinbench.workload.acceptance.streams import AcceptanceStreams, Ints
from spinbench.workload.acceptance.table import AcceptanceTable, DrafterColumns
from spinbench.workload.request import Request


def streams_from_table(
    table: AcceptanceTable, requests: Sequence[Request], drafter_names: Sequence[str]
) -> AcceptanceStreams:
    """The recorded texts of `requests`, matched by id, and the fate of every draft.

    A request that asks for fewer tokens than were recorded gets that much of the text. Raises UserError for a request
    that is not recorded, for one that differs from the recorded one or asks for more than its text holds, and for a
    drafter without columns.
    """
    rows = np.array([_row(table, request) for request in requests], np.int64)
    limits = np.array([request.max_new_tokens for request in requests], np.int64)
    lengths = np.minimum(table.requests.output_tokens[rows], limits)
    known = _num_rollout_tokens(table, rows, limits, drafter_names)
    return _streams(table, rows, lengths, tuple(drafter_names), known)


def streams_of_table(table: AcceptanceTable, drafter_names: Sequence[str]) -> AcceptanceStreams:
    """All requests of a table, whole. Raises UserError for a drafter without columns."""
    known = table.num_rollout_tokens(drafter_names)
    return _streams(table, np.arange(len(table.requests)), table.requests.output_tokens, tuple(drafter_names), known)


def _num_rollout_tokens(table: AcceptanceTable, rows: Ints, limits: Ints, drafter_names: Sequence[str]) -> int:
    """Tokens of a draft whose confidence is known wherever these requests may draft.

    Rollouts are as long as a draft could be when they were recorded. A text that ended of itself may now be asked for
    with a higher limit, under which drafts near its end can be longer.
    """
    recorded, known = table.requests, table.num_rollout_tokens(drafter_names)
    raised = rows[limits > recorded.max_new_tokens[rows]]
    from_last_token = np.maximum(recorded.max_new_tokens[raised] - recorded.output_tokens[raised], 1)
    return min(known, int(from_last_token.min(initial=known)))


def _streams(
    table: AcceptanceTable, rows: Ints, lengths: Ints, drafters: tuple[str, ...], rollout_tokens: int
) -> AcceptanceStreams:
    recorded = table.requests
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    index = stretches(recorded.offsets[rows], lengths)
    models = [table.column(name) for name in models_of(drafters)]
    rank = np.reshape([columns.rank[index] for columns in models], (-1, len(index))).astype(np.uint8)
    confidence = [columns.confidence(rollout_tokens)[:, index] for columns in models]
    return AcceptanceStreams(
        drafters=drafters,
        offsets=offsets,
        run=run_lengths(rank == 0, offsets),
        match_order=table.match_order[index],
        lookup_run=cut_at_end(table.lookup_run[:, index], offsets),
        stopped=recorded.stopped[rows] & (lengths == recorded.output_tokens[rows]),
        token_ids=table.token_ids[index],
        ngram_confidence=ngram_confidence(table, drafters, index),
        ngram_agreed=ngram_agreed(table, drafters, index),
        lookup_agreed=None if table.lookup_agreed is None else table.lookup_agreed[index],
        rank=rank,
        confidence=np.stack(confidence, 1) if confidence else None,
    )


def ngram_confidence(
    table: AcceptanceTable, drafters: tuple[str, ...], index: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8] | None:
    """Coded confidence of the drafters' n-gram table at these positions of `table`; None without one."""
    columns = _ngram_columns(table, drafters)
    return None if columns is None else columns.top_probability[index]


def ngram_agreed(
    table: AcceptanceTable, drafters: tuple[str, ...], index: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8] | None:
    """How far copies agree with the drafters' n-gram table at these positions; None without one, or if not recorded."""
    columns = _ngram_columns(table, drafters)
    return None if columns is None or columns.copy_agreed is None else columns.copy_agreed[index]


def _ngram_columns(table: AcceptanceTable, drafters: tuple[str, ...]) -> DrafterColumns | None:
    name = next((name for name in drafters if is_ngram(name)), None)
    return None if name is None else table.column(name)


def _row(table: AcceptanceTable, request: Request) -> int:
    """Where a request is in the table."""
    recorded = table.requests
    row = recorded.row_of.get(request.id)
    if row is None:
        raise UserError(
            f"{table.where}: request {request.id!r} is not in it ({len(recorded)} are); record the whole trace"
        )
    sampled = table.meta.sampling.temperature > 0
    prompt_tokens = request.prompt_len_tokens
    if request.prompt_token_ids is not None:
        prompt_tokens = len(request.prompt_token_ids)
    for name, here, there in (
        ("ignore_eos", request.ignore_eos, bool(recorded.ignores_eos[row])),
        ("seed", request.seed if sampled else None, int(recorded.seeds[row]) if sampled else None),
        ("prompt tokens", prompt_tokens, int(recorded.prompt_tokens[row]) if prompt_tokens is not None else None),
    ):
        if here != there:
            raise UserError(
                f"{table.where}: request {request.id!r} was recorded with {name} {there}, this one has {here}; the "
                "trace is another"
            )
    length = int(recorded.output_tokens[row])
    if request.max_new_tokens > length and not recorded.stopped[row]:
        raise UserError(
            f"{table.where}: request {request.id!r} asks for {request.max_new_tokens} tokens, {length} were recorded; "
            f"lower trace.max_output_tokens to {length}, or record it longer"
        )
    return row
