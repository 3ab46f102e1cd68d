"""Token trees as they were drafted: who follows whom, how several are merged, and the path that the target takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, IntArray
from spinbench.runtime.draft import Draft
from spinbench.runtime.kv.slot_table import Slots
from spinbench.runtime.upload import upload

ELSEWHERE = -1
"""Stands for a place in a tree that does not have the token."""


@dataclass(frozen=True, eq=False, slots=True)
class TreeRows:
    """The trees of a batch: of each request its newest token at place 0, and node n at place n + 1.

    Behind a request's last node there is a chain without meaning.
    """

    parent: IntArray
    """[requests, width]: place of the token that each follows; 0 for the newest token itself."""
    depth: IntArray
    """[requests, width]: 0 for the newest token."""
    sees: BoolArray
    """[requests, width, width]: at [.., i, j] whether j is an ancestor of i, or i itself."""


def tree_rows(drafts: Sequence[Draft | None], width: int) -> TreeRows:
    """The rows of these drafts, None = nothing drafted, `width` places each."""
    parent = _parents(drafts, width)
    depth = np.zeros_like(parent)
    sees = np.zeros((*parent.shape, width), np.bool_)
    at = np.tile(np.arange(width), (len(drafts), 1))
    while at.any():
        np.put_along_axis(sees, at[..., None], True, axis=-1)
        depth += at > 0
        at = np.take_along_axis(parent, at, 1)
    sees[..., 0] = True
    return TreeRows(parent, depth, sees)


def walk(
    tokens: torch.Tensor, choices: torch.Tensor, own: torch.Tensor, rows: TreeRows
) -> tuple[torch.Tensor, torch.Tensor]:
    """Down each tree along the target's choices, as long as they are among the children: accepted tokens, and path.

    All are [requests, width]: the tokens, the target's choice behind each, and which places are a request's own. The
    path [requests, width] has the accepted places in order behind the newest token's, 0; the rest has no meaning. A
    node is accepted iff it and all its ancestors are what the target chose behind their parents. Siblings differ, so
    no more than one is; and parents have lower places than children.
    """
    device = tokens.device
    agrees = (choices.gather(1, upload(rows.parent, device)) == tokens) & own
    agrees[:, 0] = True
    accepted = own & ~(upload(rows.sees, device) & ~agrees[:, None]).any(-1)
    path = torch.argsort((~accepted).to(torch.uint8), dim=1, stable=True)
    return accepted.sum(1) - 1, path


@dataclass(frozen=True, eq=False, slots=True)
class SlotMoves:
    """KV to be moved within a pool, int [moves] each: from one slot to another."""

    source: IntArray
    final: IntArray


@dataclass(frozen=True, eq=False, slots=True)
class KvMoves:
    """KV to be moved within requests, int [moves] each: from one position's slot to that of another."""

    rows: IntArray
    source: IntArray
    final: IntArray

    def within(self, slots: Slots) -> SlotMoves:
        """The slots that these positions have now."""
        source, final = self.source.copy(), self.final.copy()
        for row in np.unique(self.rows).tolist():
            own = self.rows == row
            held = slots.slots(row, 0, int(max(source[own].max(), final[own].max())) + 1)
            source[own], final[own] = held[source[own]], held[final[own]]
        return SlotMoves(source, final)

    @classmethod
    def along(cls, rows: IntArray, newest: IntArray, path: IntArray, length: IntArray) -> "KvMoves":
        """Those that put the KV of accepted paths where chains have it; what lies there already is left alone.

        `path` [requests, width] has the places behind the position `newest`, of which place 0 and `length` more count.
        """
        final = np.arange(path.shape[1])
        requests, columns = np.nonzero((path != final) & (final <= length[:, None]))
        return cls(rows[requests], newest[requests] + path[requests, columns], newest[requests] + columns)


@dataclass(frozen=True, eq=False, slots=True)
class Proposal:
    """What is to be verified for a request: one drafter's draft, or a merger of several."""

    draft: Draft
    num_first: int
    """Tokens of the draft that was there first; others were put behind them."""
    place_of: dict[int, IntArray | None]
    """By drafter, the place in `draft` of each place in its own one, int [drafted + 1], the newest token's being 0;
    None = the same."""

    def own_path(self, drafter: int, path: IntArray) -> IntArray:
        """Those of the accepted places `path` that a drafter had drafted, as places in its own draft."""
        place = self.place_of[drafter]
        if place is None:
            # what was merged into this draft lies behind it
            return path[np.logical_and.accumulate(path <= self.num_first)]
        own = np.full(len(self.draft) + 1, ELSEWHERE, np.int64)
        own[place] = np.arange(len(place))
        found = own[path]
        return found[np.logical_and.accumulate(found != ELSEWHERE)]


def merge(proposals: Sequence[Proposal], drafter: int, drafts: Sequence[Draft]) -> list[Proposal]:
    """The proposals with another drafter's drafts of the same requests in them: common prefixes once.

    What a tree has not yet is put behind its last node. All requests are compared together, depth by depth, on the
    host: one transfer for all tokens of a side.
    """
    old = _HostTrees.of([proposal.draft for proposal in proposals])
    new = _HostTrees.of(drafts)
    is_same = (new.tokens[:, :, None] == old.tokens[:, None]) & old.drafted[:, None]
    found = np.where(np.arange(new.tokens.shape[1]) == 0, 0, np.full(new.tokens.shape, ELSEWHERE))
    while True:
        above = np.take_along_axis(found, new.parent, 1)
        match = is_same & (above[:, :, None] == old.parent[:, None])
        deeper = np.where(match.any(-1), match.argmax(-1), ELSEWHERE)
        deeper[:, 0] = 0
        if np.array_equal(deeper, found):
            break
        found = deeper
    is_added = new.drafted & (found == ELSEWHERE)
    place = np.where(is_added, old.drafted.sum(1)[:, None] + np.cumsum(is_added, 1), found)
    parent = np.take_along_axis(place, new.parent, 1)
    return [
        _with(proposal, drafter, draft, place[at, : len(draft) + 1], parent[at], np.flatnonzero(is_added[at]))
        for at, (proposal, draft) in enumerate(zip(proposals, drafts, strict=True))
    ]


def _with(
    proposal: Proposal, drafter: int, draft: Draft, place: IntArray, parent: IntArray, added: IntArray
) -> Proposal:
    """`added` are the places in `draft` that the proposal lacks; `parent` the merged place of each one's parent."""
    before, place_of = proposal.draft, {**proposal.place_of, drafter: place}
    if not len(added):
        return Proposal(before, proposal.num_first, place_of)
    tokens = torch.cat((before.token_ids, draft.token_ids[upload(added - 1, draft.token_ids.device)]))
    parents = np.arange(len(before)) - 1 if before.parents is None else before.parents
    parents = np.concatenate((parents, parent[added] - 1))
    is_chain = (parents == np.arange(len(parents)) - 1).all()
    return Proposal(Draft(tokens, parents=None if is_chain else parents), proposal.num_first, place_of)


@dataclass(frozen=True, eq=False, slots=True)
class _HostTrees:
    """Drafts of a batch on the host, each [requests, width] with the newest token at place 0."""

    tokens: IntArray
    parent: IntArray
    drafted: BoolArray
    """False for the newest token, and behind a draft's end."""

    @classmethod
    def of(cls, drafts: Sequence[Draft]) -> "_HostTrees":
        lengths = np.array([len(draft) for draft in drafts])
        column = np.arange(int(lengths.max()) + 1)
        drafted = (column > 0) & (column <= lengths[:, None])
        tokens = np.full(drafted.shape, ELSEWHERE, np.int64)
        tokens[drafted] = torch.cat([draft.token_ids for draft in drafts]).cpu().numpy()
        return cls(tokens, _parents(drafts, len(column)), drafted)


def _parents(drafts: Sequence[Draft | None], width: int) -> IntArray:
    parent = np.tile(np.maximum(np.arange(width) - 1, 0), (len(drafts), 1))
    for row, draft in zip(parent, drafts, strict=True):
        if draft is not None and draft.parents is not None:
            row[1 : len(draft) + 1] = draft.parents + 1
    return parent
