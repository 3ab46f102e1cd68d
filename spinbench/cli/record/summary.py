"""What a table says of each drafter: printed, and as speculation profiles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spinbench.control.drafting.drafter import DrafterInfo
from spinbench.workload.acceptance.drafter_name import PROMPT_LOOKUP
from spinbench.workload.acceptance.streams import AcceptanceStreams
from spinbench.workload.acceptance.table import AcceptanceTable
from spinbench.workload.acceptance.table_file import bytes_per_token
from spinbench.workload.acceptance.walk import WalkedRounds, walk
from spinbench.workload.speculation_profile import FILE_NAME, speculation_profile, write_speculation_profile

PROFILES_FOLDER = "speculation_profiles"
LOG_WIDTH = 200
"""Columns where the output is no terminal."""


def walks(
    streams: AcceptanceStreams, infos: Sequence[DrafterInfo], num_speculative_tokens: int
) -> dict[str, WalkedRounds]:
    """The rounds of each drafter alone, by name."""
    return {
        info.name: walk(
            streams,
            drafter,
            num_speculative_tokens,
            info.drafts_by_lookup,
            info.max_match_tokens,
            info.min_match_tokens,
        )
        for drafter, info in enumerate(infos)
    }


def write_profiles(
    folder: Path, table: AcceptanceTable, rounds: dict[str, WalkedRounds], num_speculative_tokens: int
) -> None:
    """A speculation_profile.json for each model, and for prompt lookup; the format has no word for the two in one."""
    digests = {drafter.name: drafter.sha256 for drafter in table.meta.drafters}
    target = table.meta.target
    for name, walked in rounds.items():
        if len(walked.accepted) and (name in digests or name == PROMPT_LOOKUP):
            profile = speculation_profile(
                walked,
                table.requests.categories,
                num_speculative_tokens,
                method="draft_model" if name in digests else "ngram",
                draft_checkpoint={"name": _checkpoint_id(name), "sha256": digests.get(name)},
                target_model={"name": _checkpoint_id(target.name), "sha256": target.sha256},
                measurement_conditions={
                    "engine": "spinbench record",
                    "dataset": table.meta.trace.name,
                    "num_requests": len(table.requests),
                    "dtype": table.meta.dtype,
                    "sampling": table.meta.sampling.model_dump(),
                },
            )
            write_speculation_profile(folder / PROFILES_FOLDER / name.replace("/", "_") / FILE_NAME, profile)


def print_table(
    folder: Path,
    table: AcceptanceTable,
    streams: AcceptanceStreams,
    infos: Sequence[DrafterInfo],
    rounds: dict[str, WalkedRounds],
    num_speculative_tokens: int,
) -> None:
    """Acceptance length and agreement of each drafter, in all and by category."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)
    categories = sorted({category for category in table.requests.categories if category is not None})
    shown = Table(title=f"acceptance length at K = {num_speculative_tokens}", title_justify="left")
    shown.add_column("drafter", overflow="fold")
    for name in ("all", *categories, "first token right"):
        shown.add_column(name, justify="right")
    of_row = np.array([category or "" for category in table.requests.categories])
    for drafter, info in enumerate(infos):
        walked = rounds[info.name]
        parts = [walked.only(of_row[walked.row] == category) for category in categories]
        lengths = [f"{part.acceptance_length:.2f}" if len(part.accepted) else "-" for part in (walked, *parts)]
        shown.add_row(escape(info.name), *lengths, f"{_first_token_right(streams, drafter, info):.1%}")
    if infos:
        console.print(shown, highlight=False)
    lean, whole = bytes_per_token(folder)
    console.print(
        f"{len(table.requests)} requests, {table.requests.num_positions} tokens; {whole:.1f} bytes per token, "
        f"{lean:.1f} for token ids and ranks\n  in {escape(str(folder))}",
        highlight=False,
        soft_wrap=True,
    )


def _first_token_right(streams: AcceptanceStreams, drafter: int, info: DrafterInfo) -> float:
    """Share of all positions but each request's first at which the first drafted token is the target's."""
    order = streams.match_order.astype(np.int64)
    by_lookup = info.drafts_by_lookup(order)
    order = np.where(order >= info.min_match_tokens, np.minimum(order, info.max_match_tokens), 0)
    copied = np.vstack((np.zeros_like(streams.match_order), streams.lookup_run))[order, np.arange(len(order))] > 0
    model = streams.row_of_model(drafter)
    predicted: npt.NDArray[np.bool_] = streams.run[model] > 0 if model >= 0 else np.zeros(len(order), np.bool_)
    drafted = np.ones(len(order), np.bool_)
    drafted[streams.offsets[:-1]] = False
    right = np.where(by_lookup, copied, predicted)[drafted]
    return float(right.mean()) if len(right) else float("nan")


def _checkpoint_id(name: str) -> str:
    """At most the last two parts of a path, as the format wants it: a published file names no one's folders."""
    return "/".join([part for part in name.split("/") if part][-2:])
