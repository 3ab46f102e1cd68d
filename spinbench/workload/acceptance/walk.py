"""Ordinary speculative decoding along the texts of some streams, without an engine: one drafter, one K."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spinbench.workload.acceptance.streams import AcceptanceStreams, Bools, Ints


@dataclass(frozen=True, eq=False)
class WalkedRounds:
    """All rounds of all requests."""

    row: Ints
    """[rounds]: the request."""
    accepted: Ints
    """[rounds]: drafted tokens kept."""

    @property
    def acceptance_length(self) -> float:
        """Mean tokens emitted per round, the bonus token included; NaN without rounds."""
        return float(self.accepted.mean() + 1) if len(self.accepted) else float("nan")

    def only(self, rounds: Bools) -> "WalkedRounds":
        """Some of the rounds."""
        return WalkedRounds(self.row[rounds], self.accepted[rounds])


def walk(
    streams: AcceptanceStreams,
    drafter: int,
    num_speculative_tokens: int,
    drafts_by_lookup: Callable[[Ints], Bools],
    max_order: int = 3,
    min_order: int = 1,
) -> WalkedRounds:
    """The rounds that a run with this drafter alone has: the first token comes out of the prefill.

    `drafts_by_lookup` is that of the drafter's `DrafterInfo`. Like a run, it never drafts what could not be emitted.
    """
    rows = np.flatnonzero(streams.num_tokens > 1)
    emitted = np.ones(len(rows), np.int64)
    parts: list[tuple[Ints, Ints]] = []
    while len(rows):
        by_lookup = drafts_by_lookup(streams.match_order_at(rows, emitted))
        run = streams.accepted_run(rows, emitted, drafter, by_lookup, max_order, min_order)
        accepted = np.minimum(run, num_speculative_tokens)
        parts.append((rows, accepted))
        emitted = emitted + accepted + 1
        goes_on = emitted < streams.num_tokens[rows]
        rows, emitted = rows[goes_on], emitted[goes_on]
    if not parts:
        return WalkedRounds(np.empty(0, np.int64), np.empty(0, np.int64))
    row, accepted = (np.concatenate(column) for column in zip(*parts, strict=True))
    return WalkedRounds(row, accepted)
