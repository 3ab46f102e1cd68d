"""What the lanes did with the time: occupancy, idle time, padding, requests in flight."""

import numpy as np

from spinbench.control.jobs.lane_name import TARGET_LANE
from spinbench.control.records.span_chunk import OUT_OF_MEMORY
from spinbench.metrics.tables import RunTables


def lane_occupancy(tables: RunTables) -> dict[str, float]:
    """Share of the run in which each lane was busy, by lane name; lanes never overlap with themselves.

    Of several replicas, which have lanes of the same names: the mean over them.
    """
    if not tables.duration_s > 0:
        return {}
    spans = tables.spans
    busy_s = (spans["end_s"] - spans["start_s"]).groupby(spans["lane"]).sum()
    return {str(lane): float(seconds / (tables.duration_s * tables.num_replicas)) for lane, seconds in busy_s.items()}


def bubble_share(tables: RunTables) -> float | None:
    """Share of the time with a request in the system in which the target did nothing: what a pipeline can win back.

    Of several replicas: of the time that each of them had a request, summed up.
    """
    present_s = busy_s = 0.0
    for own in tables.by_replica:
        requests, spans = own.requests, own.spans
        finish_s = requests["finish_s"].fillna(tables.end_s)
        present = np.column_stack([requests["arrival_s"], finish_s]).astype(float)  # [requests, 2]
        present_s += union_length_s(present)
        busy = spans.loc[spans["lane"] == TARGET_LANE, ["start_s", "end_s"]].to_numpy(dtype=float)  # [spans, 2]
        busy_s += union_length_s(busy)
    return 1 - busy_s / present_s if present_s > 0 else None


def host_share(tables: RunTables) -> float | None:
    """Share of the time with a request in the system in which no model ran, so that only the host worked or waited.

    Time in which the server had nothing to serve is not counted: it says something about the trace, not about the host.
    Of several replicas: of the time that each of them had a request, summed up.
    """
    present_s = idle_s = 0.0
    for own in tables.by_replica:
        requests, spans = own.requests, own.spans
        models = spans[spans["kind"] != "host"]
        busy = models[["start_s", "end_s"]].to_numpy(dtype=float)  # [spans, 2]
        finish_s = requests["finish_s"].fillna(tables.end_s).to_numpy(dtype=float)
        present = np.column_stack([requests["arrival_s"].to_numpy(dtype=float), finish_s])  # [requests, 2]
        own_s = union_length_s(np.concatenate([busy, present]))
        present_s += own_s
        idle_s += own_s - union_length_s(busy)
    return idle_s / present_s if present_s > 0 else None


def union_length_s(intervals: np.ndarray) -> float:
    """Seconds covered by at least one of the intervals [n, 2], which may overlap."""
    if len(intervals) == 0:
        return 0.0
    starts, ends = intervals[np.argsort(intervals[:, 0], kind="stable")].T
    covered_to = np.maximum.accumulate(ends)
    gaps = np.maximum(starts[1:] - covered_to[:-1], 0.0)
    return float(covered_to[-1] - starts[0] - gaps.sum())


def padding_share(tables: RunTables) -> float | None:
    """Padded cells over all cells that the verify jobs computed, 0 to 1; None when nothing was verified."""
    verify = tables.spans[tables.spans["kind"] == "verify"]
    padded, useful = int(verify["padded_cells"].sum()), int(verify["useful_cells"].sum())
    return padded / (useful + padded) if useful + padded else None


def verify_mean(tables: RunTables, column: str) -> float | None:
    """Mean of a count over the verify jobs; None when nothing was verified."""
    verify = tables.spans[tables.spans["kind"] == "verify"]
    return float(verify[column].mean()) if len(verify) else None


def peak_key_tokens(tables: RunTables) -> int:
    """The most keys that a layer's attention copied out of the KV cache at once, over all jobs that fitted."""
    fitted = tables.spans.loc[tables.spans["kind"] != OUT_OF_MEMORY, "peak_key_tokens"]
    return int(fitted.max()) if len(fitted) else 0


def max_concurrent_requests(tables: RunTables) -> int:
    """The most requests in the system at once, waiting ones included; at equal times a request leaves first."""
    requests = tables.requests
    arrivals_s = requests["arrival_s"].to_numpy(dtype=float)
    leaves_s = requests["finish_s"].dropna().to_numpy(dtype=float)
    times_s = np.concatenate([leaves_s, arrivals_s])
    steps = np.concatenate([np.full(len(leaves_s), -1), np.ones(len(arrivals_s), dtype=int)])
    in_system = np.cumsum(steps[np.argsort(times_s, kind="stable")])
    return int(in_system.max(initial=0))
