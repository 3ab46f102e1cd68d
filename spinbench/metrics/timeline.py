"""A run's spans as a Chrome trace, which Perfetto and chrome://tracing open."""

from typing import Any

from spinbench.metrics.tables import REPLICA, RunTables

PROCESS_ID = 1
"""Of the first replica; others follow."""
MAX_SPANS = 20_000
"""Jobs in a Chrome trace at the most: viewers do not take a simulated day. spans.parquet has all."""

ARGUMENTS = {
    "round": "round_index",
    "tokens": "num_tokens",
    **{
        name: name
        for name in (
            "useful_cells", "padded_cells", "query_tokens", "key_tokens", "peak_key_tokens", "used_tokens"
        )
    },
}  # fmt: skip
"""What an event says of its job, and the columns with it."""


def lane_order(tables: RunTables) -> list[str]:
    """The lanes that did something: the target first, then the drafters as configured, others, the host last."""
    seen = [str(lane) for lane in tables.spans["lane"].unique()]
    known = ["target", *tables.drafters]
    ordered = [lane for lane in known if lane in seen]
    return (
        ordered
        + sorted(lane for lane in seen if lane not in known and lane != "host")
        + [lane for lane in seen if lane == "host"]
    )


def chrome_trace(tables: RunTables) -> dict[str, Any]:
    """The trace as JSON-ready data: one process per replica, one thread per lane, one event per job, microseconds from
    the run's start.

    Of a long run the first `MAX_SPANS` jobs; `otherData` says how many were left out.
    """
    shown = tables.spans.head(MAX_SPANS)
    thread_of = {lane: thread for thread, lane in enumerate(lane_order(tables), start=1)}
    events: list[dict[str, Any]] = []
    for replica in range(tables.num_replicas):
        name = "spinbench" if tables.num_replicas == 1 else f"replica {replica}"
        events.append(_metadata("process_name", replica, 0, {"name": name}))
        for lane, thread in thread_of.items():
            events.append(_metadata("thread_name", replica, thread, {"name": lane}))
            events.append(_metadata("thread_sort_index", replica, thread, {"sort_index": thread}))
    # column by column: a dictionary of each row takes seconds for so many
    replicas = shown[REPLICA].tolist() if REPLICA in shown else [0] * len(shown)
    places = zip(shown["kind"].tolist(), shown["lane"].tolist(), replicas, strict=True)
    times = zip(shown["start_s"].tolist(), shown["end_s"].tolist(), strict=True)
    requests = (ids.tolist() for ids in shown["request_ids"])
    counts = zip(*(shown[column].tolist() for column in ARGUMENTS.values()), strict=True)
    for (kind, lane, replica), (start_s, end_s), ids, count in zip(places, times, requests, counts, strict=True):
        number, *others = zip(ARGUMENTS, count, strict=True)
        events.append(
            {
                "ph": "X",
                "name": kind,
                "cat": kind,
                "pid": PROCESS_ID + replica,
                "tid": thread_of[lane],
                "ts": round((start_s - tables.start_s) * 1e6, 3),
                "dur": round((end_s - start_s) * 1e6, 3),
                "args": dict((number, ("requests", ids), *others)),
            }
        )
    other = {"spans_left_out": len(tables.spans) - len(shown)}
    return {"displayTimeUnit": "ms", "traceEvents": events, "otherData": other}


def _metadata(name: str, replica: int, thread: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": PROCESS_ID + replica, "tid": thread, "args": args}
