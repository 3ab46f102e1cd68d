"""What is to be verified for each request, from the first draft of a round to the end of its verification."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spinbench.control.arrays import IntArray
from spinbench.control.jobs.job import DraftJob, TokenSpans, VerifyJob
from spinbench.control.jobs.result import VerifyResult
from spinbench.runtime.draft import Draft
from spinbench.runtime.token_tree import KvMoves, Proposal, merge


class Proposals:
    """Drafts by row, merged where several drafters draft for a request; and what drafters must move in their pools.

    A drafter's moves wait for its next job, which may run on a lane of its own.
    """

    def __init__(self, num_drafters: int) -> None:
        self._num_drafters = num_drafters
        self._of_row: dict[int, Proposal] = {}
        self._moves: list[dict[int, tuple[IntArray, IntArray]]] = [{} for _ in range(num_drafters)]
        """Per drafter and row the positions from and to which KV is to be moved."""
        self._taken: list[dict[int, tuple[IntArray, IntArray]]] = [{} for _ in range(num_drafters)]
        """The same of moves that jobs were given, as long as they are of the KV that the request has."""
        self._ahead: dict[int, tuple[DraftJob, Draft | None]] = {}
        """By row the newest job that drafts ahead, and its draft once that is there."""

    def put(self, drafter: int, rows: Sequence[int], drafts: Sequence[Draft]) -> None:
        """Take a drafter's drafts, in place of what there was for these requests."""
        for row, draft in zip(rows, drafts, strict=True):
            self._of_row[row] = Proposal(draft, len(draft), {drafter: None})

    def await_ahead(self, job: DraftJob) -> list[Draft]:
        """Of the requests of a job that drafts ahead, only its drafts count from now on; those that it goes on from."""
        rows = job.spans.rows.tolist()
        self._ahead.update((row, (job, None)) for row in rows)
        return [self._of_row[row].draft for row in rows]

    def put_ahead(self, job: DraftJob, drafts: Sequence[Draft]) -> None:
        """Take in what was drafted ahead, for the requests that have not gone on another way meanwhile."""
        for row, draft in zip(job.spans.rows.tolist(), drafts, strict=True):
            if row in self._ahead and self._ahead[row][0] is job:
                self._ahead[row] = job, draft

    def use_ahead(self, job: VerifyJob) -> None:
        """Put what was drafted ahead in place of a draft, where the job says so, and forget the rest of it."""
        rows = job.spans.rows.tolist()
        ready = np.zeros(len(rows), np.bool_) if job.drafted_ahead is None else job.drafted_ahead
        for row, is_ready in zip(rows, ready.tolist(), strict=True):
            ahead, draft = self._ahead.pop(row, (None, None))
            if is_ready:
                if ahead is None or draft is None:
                    raise RuntimeError(f"row {row} has no draft that was made ahead: the loop lost count")
                self.put(ahead.drafter, [row], [draft])

    def join(self, drafter: int, rows: Sequence[int], drafts: Sequence[Draft]) -> IntArray:
        """Merge a drafter's drafts with those of others; the tokens that each adds to them, int [rows]."""
        added = np.array([len(draft) for draft in drafts], np.int64)
        again = [place for place, row in enumerate(rows) if row in self._of_row]
        first = [place for place, row in enumerate(rows) if row not in self._of_row]
        self.put(drafter, [rows[place] for place in first], [drafts[place] for place in first])
        if again:
            before = [self._of_row[rows[place]] for place in again]
            merged = merge(before, drafter, [drafts[place] for place in again])
            added[again] = [len(now.draft) - len(old.draft) for now, old in zip(merged, before, strict=True)]
            self._of_row.update((rows[place], proposal) for place, proposal in zip(again, merged, strict=True))
        return added

    def drafts_of(self, rows: Sequence[int]) -> dict[int, Draft]:
        """What is to be verified, by row; nothing for a request without a draft."""
        return {row: self._of_row[row].draft for row in rows if row in self._of_row}

    def settle(self, spans: TokenSpans, result: VerifyResult, path: IntArray | None) -> VerifyResult:
        """Forget what was verified, and note what drafters have to move; the result says who had drafted what.

        `path` has the accepted places as `Verifier.verify_trees` gives them, None = those of chains.
        """
        settled = [self._of_row.pop(row, None) for row in spans.rows.tolist()]
        merged = any(proposal is not None and len(proposal.place_of) > 1 for proposal in settled)
        if path is None and not merged:
            return result
        accepted_of = np.zeros((len(spans), self._num_drafters), np.int64)
        places = zip(spans.rows.tolist(), spans.start.tolist(), result.num_emitted.tolist(), strict=True)
        for at, (row, newest, num_emitted) in enumerate(places):
            proposal = settled[at]
            if proposal is None:
                continue
            accepted = np.arange(1, num_emitted) if path is None else path[at, 1:num_emitted]
            for drafter in proposal.place_of:
                own = proposal.own_path(drafter, accepted)
                accepted_of[at, drafter] = len(own)
                final = np.arange(1, len(own) + 1)
                moved = own != final
                if moved.any():
                    self._moves[drafter][row] = newest + own[moved], newest + final[moved]
        return replace(result, accepted_of=accepted_of) if merged else result

    def take_moves(self, drafter: int, rows: Sequence[int]) -> KvMoves | None:
        """What a drafter has to move before its next job with these requests; None = nothing."""
        waiting = self._moves[drafter]
        taken = {row: waiting.pop(row) for row in rows if row in waiting} if waiting else {}
        if not taken:
            return None
        self._taken[drafter].update(taken)
        moves = [(row, *positions) for row, positions in taken.items()]
        return KvMoves(
            np.concatenate([np.full(len(source), row) for row, source, _ in moves]),
            np.concatenate([source for _, source, _ in moves]),
            np.concatenate([final for *_, final in moves]),
        )

    def put_back(self, drafter: int, moves: KvMoves) -> None:
        """What a drafter could not move: it has to before its next job, for requests that have their KV still."""
        taken = self._taken[drafter]
        self._moves[drafter].update((row, taken[row]) for row in set(moves.rows.tolist()) if row in taken)

    def forget(self, rows: Sequence[int]) -> None:
        """What was drafted for these requests is not verified."""
        for row in rows:
            self._of_row.pop(row, None)
            self._ahead.pop(row, None)

    def release(self, rows: Sequence[int]) -> None:
        """These requests lose their KV."""
        for row in rows if self._ahead else ():
            self._ahead.pop(row, None)
        for moves in (*self._moves, *self._taken):
            for row in rows if moves else ():
                moves.pop(row, None)

    def clear(self) -> None:
        """Forget everything."""
        self._of_row.clear()
        self._ahead.clear()
        for moves in (*self._moves, *self._taken):
            moves.clear()
