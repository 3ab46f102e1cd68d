"""One page of all that was measured: what was met, what was missed, what is not known, then every table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.figure import Judged, judged
from benchmarks.gpu.part import Part

TO_SHOW = {
    "steps": "a plain step near the memory's limit, 5 rows for little more, the host idle",
    "drafts": "a step of the 68M shape in a graph",
    "waits": "a draft 0, a verification 1 (for what was accepted)",
    "overlap": "what two streams gain over one",
    "kernels": "every case within its dtype's tolerance of float64: right",
    "bandwidth": "keys and values read per second, as a share of copy bandwidth",
    "layouts": "packed, padded, grouped and decomposed on the same requests",
    "losslessness": "answers are equal, or part at a near tie of the logits: right",
    "serving": "throughput over plain decoding, beside Hugging Face's generate",
    "validation": "the profile's errors of held-out jobs, then the simulator's of whole runs",
}
"""What each part is about."""


def verdicts(parts: Sequence[Part], on_gpu: bool) -> list[Judged]:
    """Of every figure, from the parts as far as they are."""
    return judged({part.name: part for part in parts}, on_gpu)


def in_one_line(found: Sequence[Judged]) -> str:
    """How many bars were met, which were missed, and how many nobody knows of."""
    barred = [one for one in found if one.figure.bar]

    def of(kind: str) -> list[Judged]:
        return [one for one in barred if one.verdict.startswith(kind)]

    met, so_far, missed = of("met"), of("met so far"), of("missed")
    which = "; ".join(f"{one.figure.what}: {one.value:.3g}, bar {one.figure.bar}" for one in missed)
    return " ".join(
        (
            f"Bars met: {len(met)} of {len(barred)}{f', {len(so_far)} of them so far' if so_far else ''}.",
            f"Missed: {len(missed)}{f' ({which})' if which else ''}.",
            f"Not measured: {len(of('not measured'))}.",
            *([f"Not judged without a GPU: {len(without)}."] if (without := of("no GPU")) else []),
        )
    )


def write_summary(path: Path, meta: Mapping[str, Any], parts: Sequence[Part]) -> None:
    """Markdown: device, the verdict, figures beside their bars, parts that broke, then a table a part."""
    hardware, found = meta["hardware"], verdicts(parts, not meta["miniature"])
    name = hardware["gpu"] or f"{hardware['cpu']} (no GPU: times mean nothing)"
    broken = [f"- **{part.name} broke**: {part.reason}" for part in parts if part.is_broken]
    lines = [
        f"# {name}",
        "",
        f"{meta['created']}, commit {meta['git_commit']}; {meta['sizes']}; measured copy bandwidth "
        f"{meta['copy_bytes_per_s'] / 1e9:,.0f} GB/s, matrix rate {meta['matrix_flops_per_s'] / 1e12:,.1f} TFLOP/s.",
        "",
        f"**{in_one_line(found)}**",
        "",
        *([*broken, ""] if broken else []),
        "| figure | measured | bar | verdict |",
        "|:--|--:|--:|:--|",
        *(f"| {one.figure.what} | {_value(one)} | {one.figure.bar or '-'} | {_verdict(one)} |" for one in found),
        "",
    ]
    for part in parts:
        lines += [f"## {part.name}", "", f"To show: {TO_SHOW[part.name]}.", ""]
        if part.table is None:
            lines += [f"*Not measured*: {part.reason}.", ""]
        else:
            rest = f" *Not all of it*: {part.reason}." if part.reason else ""
            lines += [f"{part.took_s:.0f} s.{rest}", "", part.table.to_markdown(index=False, floatfmt=".4g"), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def _value(one: Judged) -> str:
    return "-" if one.value is None else f"{one.value:.3g}"


def _verdict(one: Judged) -> str:
    word = one.verdict.replace("|", "/")  # a reason may hold what would end the cell
    return f"**{word}**" if one.verdict == "missed" else word
