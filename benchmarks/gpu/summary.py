"""One page of all that was measured, each figure beside what it is held against."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.part import Part

BARS = {
    "kernels": "every case within its dtype's tolerance of float64: right",
    "bandwidth": "share_of_copy >= 0.70 at the long context",
    "layouts": "packed, padded, grouped and decomposed on the same requests",
    "steps": "batch 1, one row: times_the_limit <= 1.15; 5 rows <= 1.10x one row; host_share < 0.05",
    "drafts": "68M shape: <= 150 us a token in a graph",
    "waits": "a draft 0, a verification 1 (for what was accepted)",
    "overlap": "gain of two streams over one",
    "losslessness": "answers are equal, or part at a near tie of the logits: right",
    "serving": "throughput over plain decoding, beside Hugging Face's generate",
    "validation": "throughput error <= 3 %, TPOT p50 and p90 <= 5 %; first the profile's own errors of held-out jobs",
}
"""What each part should show."""


def figures(parts: Sequence[Part]) -> dict[str, float]:
    """The few figures that decide, by what they are called in the list of what is to be shown."""
    found: dict[str, float] = {}
    tables = {part.name: part.table for part in parts if part.table is not None}
    if "steps" in tables:
        by = tables["steps"].set_index(["batch", "rows_per_request"])["device_ms"]
        first = tables["steps"].iloc[0]
        widest = tables["steps"]["rows_per_request"].max()
        found["plain step at batch 1, times the memory's limit"] = float(first["times_the_limit"])
        if widest > 1:  # a part that ran out of time may have no more than its first row
            found["verify of 5 tokens, times a plain step, batch 1"] = float(by[(1, widest)] / by[(1, 1)])
        found["host share of a plain step, batch 1"] = float(first["host_share"])
    if "drafts" in tables:
        found["draft step of the small shape, us"] = float(tables["drafts"]["device_us_per_token"].iloc[0])
    if "bandwidth" in tables:
        found["attention's lowest share of copy bandwidth"] = float(tables["bandwidth"]["share_of_copy"].min())
    if "overlap" in tables:
        found["largest gain of two streams"] = float(tables["overlap"]["gain"].max())
    return found


def write_summary(path: Path, meta: Mapping[str, Any], parts: Sequence[Part]) -> None:
    """Markdown: device, figures, then a table a part."""
    hardware = meta["hardware"]
    name = hardware["gpu"] or f"{hardware['cpu']} (no GPU: times mean nothing)"
    lines = [
        f"# {name}",
        "",
        f"{meta['created']}, commit {meta['git_commit']}; measured copy bandwidth "
        f"{meta['copy_bytes_per_s'] / 1e9:,.0f} GB/s, matrix rate {meta['matrix_flops_per_s'] / 1e12:,.1f} TFLOP/s.",
        "",
        "| figure | value |",
        "|:--|--:|",
        *(f"| {what} | {value:.3g} |" for what, value in figures(parts).items()),
        "",
    ]
    for part in parts:
        lines += [f"## {part.name}", "", f"To show: {BARS[part.name]}.", ""]
        if part.table is None:
            lines += [f"*Not measured*: {part.reason}.", ""]
        else:
            rest = f" *Not all of it*: {part.reason}." if part.reason else ""
            lines += [f"{part.took_s:.0f} s.{rest}", "", part.table.to_markdown(index=False, floatfmt=".4g"), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
