"""The rounds of a run, put away as columns while it goes on."""

from collections.abc import Sequence

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.body import JobDone
from spinbench.control.records.round_record import RoundColumns
from spinbench.control.rounds.round import Round

ROUNDS_PER_CHUNK = 64
"""A round leaves about twenty arrays. Kept to the end they would be most of the memory of a long simulation, and joined
one round at a time much of its time. So few that their memory is used again while a core's cache still has it."""

COUNTS = (
    "rows", "drafter", "num_speculative_tokens", "drafted", "draft_depth", "context_tokens", "lookup_match_order",
    "catch_up_tokens",
)  # fmt: skip
"""Attributes of a round that are int [requests]; none needs more than 32 bits."""


class RoundLog:
    """Takes ended rounds one by one, and forgets them once they are in columns."""

    def __init__(self) -> None:
        self._open: list[tuple[Round, IntArray, float, float]] = []
        self._chunks: list[dict[str, np.ndarray]] = []

    def add(self, round_: Round, accepted: IntArray, done: JobDone) -> None:
        """A round whose verification is `done`; `accepted` [requests] tokens of its drafts."""
        self._open.append((round_, accepted, done.start_s, done.end_s))
        if len(self._open) == ROUNDS_PER_CHUNK:
            self._close_chunk()

    def columns(self, request_ids: Sequence[str], drafters: Sequence[str]) -> RoundColumns:
        """All rounds so far; the names are those that rows and numbers of drafters stand for."""
        self._close_chunk()

        def column(name: str) -> np.ndarray:
            chunks = [chunk.pop(name) for chunk in self._chunks]
            dtype = np.float64 if name.endswith("_s") else np.int64
            return np.concatenate(chunks, dtype=dtype) if chunks else np.empty(0, dtype)

        columns = RoundColumns(
            request_ids=tuple(request_ids),
            drafters=tuple(drafters),
            round_index=column("round_index"),
            row=column("rows"),
            drafter=column("drafter"),
            num_speculative_tokens=column("num_speculative_tokens"),
            drafted=column("drafted"),
            draft_depth=column("draft_depth"),
            accepted=column("accepted"),
            context_tokens=column("context_tokens"),
            lookup_match_order=column("lookup_match_order"),
            catch_up_tokens=column("catch_up_tokens"),
            batch_size=column("batch_size"),
            draft_start_s=column("draft_start_s"),
            draft_end_s=column("draft_end_s"),
            verify_start_s=column("verify_start_s"),
            verify_end_s=column("verify_end_s"),
        )
        self._chunks.clear()
        return columns

    def _close_chunk(self) -> None:
        if not self._open:
            return
        rounds = [round_ for round_, *_ in self._open]
        sizes = np.array([len(round_.rows) for round_ in rounds])
        columns = {name: [getattr(each, name) for each in rounds] for name in COUNTS}
        chunk: dict[str, np.ndarray] = {}
        joined: dict[tuple[int, ...], np.ndarray] = {}
        for name, arrays in columns.items():
            same = tuple(map(id, arrays))  # of chains drafted to their full length several columns are the same arrays
            if same not in joined:
                joined[same] = np.concatenate(arrays, dtype=np.int32)
            chunk[name] = joined[same]
        chunk["accepted"] = np.concatenate([accepted for _, accepted, *_ in self._open], dtype=np.int32)
        chunk["draft_start_s"] = np.concatenate([each.draft_times.start_s for each in rounds])
        chunk["draft_end_s"] = np.concatenate([each.draft_times.end_s for each in rounds])
        indices = np.array([each.index for each in rounds], np.int32)
        chunk["round_index"], chunk["batch_size"] = np.repeat(indices, sizes), np.repeat(sizes.astype(np.int32), sizes)
        chunk["verify_start_s"] = np.repeat([start_s for *_, start_s, _ in self._open], sizes)
        chunk["verify_end_s"] = np.repeat([end_s for *_, end_s in self._open], sizes)
        self._chunks.append(chunk)
        self._open.clear()
