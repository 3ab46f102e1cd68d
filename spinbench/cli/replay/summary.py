"""A finished replay in three lines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape


def print_summary(console: Console, folder: Path, summary: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Prints how fast a run was and where it is, from its summary.json and meta.json."""
    drafting, drafted = meta["drafting"], meta["num_speculative_tokens"]
    setting = ", ".join(
        (
            *((f"{meta['replicas']} replicas {meta['router']}",) if meta.get("replicas", 1) > 1 else ()),
            f"batch {meta['max_num_seqs']}",
            *((drafting if drafting.startswith("tree") else f"K={drafted}",) if drafted else ()),
            *((meta["verification"],) if meta["verification"] else ()),  # a peer has none
        )
    )
    simulated = ", simulated" if meta["engine"] == "simulation" else ""
    lines = (
        f"[bold]{escape(meta['method'])}[/]  {setting}, {meta['dtype']} on {meta['hardware']['device']}{simulated}: "
        f"{summary['completed']} requests, {summary['total_output_tokens']} tokens in {summary['duration']:.1f} s",
        f"  [bold]{_number(summary['output_throughput'], 1)} tokens/s[/]"
        f"   acceptance length {_number(summary['acceptance_length'], 2)}"
        f"   TTFT p50 {_ms(summary, 'median_ttft_ms')} p99 {_ms(summary, 'p99_ttft_ms')} ms"
        f"   TPOT p50 {_ms(summary, 'median_tpot_ms')} p99 {_ms(summary, 'p99_tpot_ms')} ms",
        f"  in {escape(str(folder))}",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _ms(summary: Mapping[str, Any], key: str) -> str:
    return _number(summary[key], 1)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
