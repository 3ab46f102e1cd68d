"""The record of a run with many replicas, from what each of them recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from spinbench.control.records.round_record import RoundColumns
from spinbench.control.records.run_record import RunRecord
from spinbench.control.records.span_record import SpanColumns


def join_records(records: Mapping[int, RunRecord], num_replicas: int, end_s: float) -> RunRecord:
    """One record: what happened to all of them, in the order in which it ended.

    `records` are by the replicas' numbers, at least one; a replica that is not there did nothing. Rounds are numbered
    on from replica to replica, so that each number stands for one round of one replica. The records name the same
    requests in the same order (`request_ids`) and the same drafters.
    """
    parts = [records[index] for index in sorted(records)]
    of_requests = [(request, index) for index in sorted(records) for request in records[index].requests]
    # aborted ones last, as a single loop has them
    of_requests.sort(key=lambda pair: np.inf if pair[0].finish_s is None else pair[0].finish_s)
    offsets = np.cumsum([0, *map(_num_rounds, parts)]).tolist()
    return RunRecord(
        requests=tuple(request for request, _ in of_requests),
        rounds=_join_rounds([part.rounds for part in parts], offsets),
        spans=_join_spans([part.spans for part in parts], offsets),
        drafters=parts[0].drafters,
        start_s=min(part.start_s for part in parts),
        end_s=end_s,
        complete=all(part.complete for part in parts),
        num_replicas=num_replicas,
        replica_of={request.request_id: index for request, index in of_requests},
    )


def _num_rounds(record: RunRecord) -> int:
    indices = np.concatenate((record.rounds.round_index, record.spans.round_index, [-1]))
    return int(indices.max()) + 1


def _join_rounds(parts: Sequence[RoundColumns], offsets: Sequence[int]) -> RoundColumns:
    moved = [replace(part, round_index=part.round_index + by) for part, by in zip(parts, offsets, strict=False)]
    columns = {name: np.concatenate([getattr(part, name) for part in moved]) for name in _array_names(moved[0])}
    order = np.argsort(columns["verify_end_s"], kind="stable")
    ordered: dict[str, Any] = {name: column[order] for name, column in columns.items()}
    return replace(moved[0], **ordered)


def _join_spans(parts: Sequence[SpanColumns], offsets: Sequence[int]) -> SpanColumns:
    moved = [
        replace(part, round_index=np.where(part.round_index < 0, -1, part.round_index + by))
        for part, by in zip(parts, offsets, strict=False)
    ]
    names = [name for name in _array_names(moved[0]) if name not in ("first_row", "rows")]
    columns = {name: np.concatenate([getattr(part, name) for part in moved]) for name in names}
    order = np.argsort(columns["end_s"], kind="stable")
    ordered: dict[str, Any] = {name: column[order] for name, column in columns.items()}
    # a span's rows stay together, and move with it
    counts = np.concatenate([np.diff(part.first_row) for part in moved])
    old_first = np.cumsum(counts) - counts
    new_counts = counts[order]
    new_first = np.concatenate(([0], np.cumsum(new_counts)))
    rows = np.concatenate([part.rows for part in moved])
    places = np.repeat(old_first[order] - new_first[:-1], new_counts) + np.arange(len(rows))
    lanes = [lane for part in moved for lane in part.lane]
    kinds = [kind for part in moved for kind in part.kind]
    return replace(
        moved[0],
        lane=tuple(lanes[place] for place in order.tolist()),
        kind=tuple(kinds[place] for place in order.tolist()),
        first_row=new_first,
        rows=rows[places],
        **ordered,
    )


def _array_names(part: RoundColumns | SpanColumns) -> list[str]:
    return [field.name for field in fields(part) if isinstance(getattr(part, field.name), np.ndarray)]
