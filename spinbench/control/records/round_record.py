"""What a request's part in a round came to: one by one, and as columns of a whole run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.control.records.number_columns import number_columns


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One request's part in one round: `emitted = accepted + 1`."""

    round_index: int
    request_id: str
    drafter: str | None
    """`None`: nothing was drafted for this request (plain decoding)."""
    num_speculative_tokens: int
    """K that was asked for; of a tree, its nodes."""
    drafted: int
    """Tokens really proposed, at most K: prompt lookup may find fewer. Of a tree, those of all branches."""
    accepted: int
    """Drafted tokens kept. Tokens behind an end token are not kept."""
    emitted: int
    context_tokens: int
    """Prompt and output tokens before this round."""
    lookup_match_order: int
    """Length of the n-gram that prompt lookup matched at the start of this round, 0 = no match."""
    catch_up_tokens: int
    """Tokens that had to be prefilled into the drafter because it had not followed this request."""
    batch_size: int
    """Requests in this round."""
    draft_start_s: float | None
    """Of a draft that was made ahead, before the end of the round before."""
    draft_end_s: float | None
    verify_start_s: float
    verify_end_s: float
    draft_depth: int | None = None
    """Tokens on the longest drafted path: all of a chain, fewer than `drafted` of a tree. None = a chain."""


@dataclass(frozen=True, eq=False)
class RoundColumns:
    """All `RoundRecord`s of a run, [records] a column; `row` and `drafter` index the two tuples of names."""

    request_ids: tuple[str, ...]
    drafters: tuple[str, ...]
    round_index: IntArray
    row: IntArray
    drafter: IntArray
    """-1 = none."""
    num_speculative_tokens: IntArray
    drafted: IntArray
    accepted: IntArray
    context_tokens: IntArray
    lookup_match_order: IntArray
    catch_up_tokens: IntArray
    batch_size: IntArray
    draft_start_s: FloatArray
    """NaN where nothing was drafted."""
    draft_end_s: FloatArray
    verify_start_s: FloatArray
    verify_end_s: FloatArray
    draft_depth: IntArray

    @classmethod
    def of(cls, records: Sequence[RoundRecord]) -> "RoundColumns":
        """The columns of some records."""
        ids = tuple(dict.fromkeys(record.request_id for record in records))
        names = tuple(dict.fromkeys(record.drafter for record in records if record.drafter is not None))
        columns: dict[str, Any] = {
            "request_ids": ids,
            "drafters": names,
            "row": np.array([ids.index(record.request_id) for record in records], np.int64),
            "drafter": np.array([-1 if r.drafter is None else names.index(r.drafter) for r in records], np.int64),
            "draft_depth": np.array([r.drafted if r.draft_depth is None else r.draft_depth for r in records], np.int64),
        }
        return cls(**number_columns(cls, records, columns), **columns)

    def __len__(self) -> int:
        """Records."""
        return len(self.row)

    def __getitem__(self, index: int) -> RoundRecord:
        """One record."""
        drafter = int(self.drafter[index])
        start_s, end_s = float(self.draft_start_s[index]), float(self.draft_end_s[index])
        return RoundRecord(
            round_index=int(self.round_index[index]),
            request_id=self.request_ids[self.row[index]],
            drafter=None if drafter < 0 else self.drafters[drafter],
            num_speculative_tokens=int(self.num_speculative_tokens[index]),
            drafted=int(self.drafted[index]),
            accepted=int(self.accepted[index]),
            emitted=int(self.accepted[index]) + 1,
            context_tokens=int(self.context_tokens[index]),
            lookup_match_order=int(self.lookup_match_order[index]),
            catch_up_tokens=int(self.catch_up_tokens[index]),
            batch_size=int(self.batch_size[index]),
            draft_start_s=None if np.isnan(start_s) else start_s,
            draft_end_s=None if np.isnan(end_s) else end_s,
            verify_start_s=float(self.verify_start_s[index]),
            verify_end_s=float(self.verify_end_s[index]),
            draft_depth=int(self.draft_depth[index]),
        )

    def __iter__(self) -> Iterator[RoundRecord]:
        """Record by record; for columns use the arrays."""
        return (self[index] for index in range(len(self)))
