"""Speculative sampling by rejection: any drafter, the target's law (Leviathan et al., arXiv 2211.17192)."""

import numpy as np
import numpy.typing as npt
import torch

from spinbench.control.arrays import IntArray
from spinbench.runtime.draft import Draft, DraftedStep, DraftLaw, ScoredRows, Verdict
from spinbench.runtime.sampling.law import RowSampling, Sampling, draw, law_of
from spinbench.runtime.upload import upload
from spinbench.workload.acceptance.counter_random import uniforms

POSITION_BITS = 32


def host_uniforms(
    stream: str, seeds: IntArray, positions: IntArray, round_start: IntArray | int = 0
) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each request seed and position, independent between streams and rounds."""
    counters = (np.asarray(round_start, np.int64) << POSITION_BITS) | positions
    return uniforms(0, stream, seeds.astype(np.uint64), counters)


def request_uniforms(
    stream: str, seeds: IntArray, positions: IntArray, device: torch.device, round_start: IntArray | int = 0
) -> torch.Tensor:
    """The same on the device, float64."""
    return upload(host_uniforms(stream, seeds, positions, round_start), device)


def residual_law(target: torch.Tensor, draft: torch.Tensor) -> torch.Tensor:
    """The law of the token in place of a rejected one: (p - q)+ over its sum, from p and q [rows, vocab] each.

    p itself where nothing is left, which only rounding can bring about: a token is rejected only if p < q for it, and
    then p > q for another.
    """
    left = (target - draft).clamp(min=0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total, target)


def num_accepted(
    target_probability: torch.Tensor, draft_probability: torch.Tensor, uniform: torch.Tensor, is_drafted: torch.Tensor
) -> torch.Tensor:
    """How many drafted tokens of each request are kept, int64 [requests]; all arguments are [requests, K].

    A token is kept with probability min(1, p / q), up to the first that is not; `is_drafted` is False behind a
    request's draft.
    """
    kept = (uniform * draft_probability < target_probability) & is_drafted
    return kept.long().cumprod(1).sum(1)


def judge_by_law(law: torch.Tensor, rows: ScoredRows) -> Verdict:
    """Algorithm 1 of the paper for a batch, from the target's law p at each row [logit rows, vocab].

    Each request keeps its drafted tokens up to the first that is rejected, and gets one more token: from (p - q)+ in
    place of the rejected one, or from p behind a draft that was kept whole.
    """
    tokens, device = rows.token_ids, law.device
    drafted = upload(rows.own[:, 1:], device)
    lengths = rows.own.sum(1)
    first_row = upload(np.cumsum(lengths) - lengths, device)
    seeds = np.broadcast_to(rows.seeds[:, None], rows.own.shape)
    positions = rows.start[:, None] + 1 + np.arange(rows.own.shape[1])
    uniform = request_uniforms("accept", seeds[:, 1:], positions[:, :-1], device)
    scored = first_row[:, None] + torch.arange(drafted.shape[1], device=device)
    target_probability = law[scored.clamp(max=len(law) - 1), tokens[:, 1:]]
    accepted = num_accepted(target_probability, _draft_probability(rows, law), uniform, drafted)
    bonus_law = law[first_row + accepted]
    if drafted.shape[1]:
        rejects = accepted < drafted.sum(1)
        residual = residual_law(bonus_law, _rejected_law(rows, accepted, rejects, bonus_law))
        bonus_law = torch.where(rejects[:, None], residual, bonus_law)
    bonus_uniform = request_uniforms("emit", seeds, positions, device)
    column = accepted[:, None]
    bonus = draw(bonus_law, bonus_uniform.gather(1, column)[:, 0])
    emitted = torch.cat((tokens[:, 1:], tokens[:, :1]), 1)
    return Verdict(emitted.scatter(1, column, bonus[:, None]), accepted)


def _draft_probability(rows: ScoredRows, like: torch.Tensor) -> torch.Tensor:
    """With which probability each drafted token was drawn, [requests, width - 1]; 1 for what was certain."""
    probability = like.new_ones(rows.own.shape[0], rows.own.shape[1] - 1)
    drawn = [draft.probability for draft in rows.drafts if draft is not None and draft.probability is not None]
    if drawn:
        has_law = np.array([draft is not None and draft.law is not None for draft in rows.drafts])
        where = upload(np.flatnonzero(rows.own[:, 1:] & has_law[:, None]), like.device)
        probability.view(-1)[where] = torch.cat(drawn).to(like.dtype)
    return probability


def _rejected_law(rows: ScoredRows, accepted: torch.Tensor, rejects: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The law of each request's first token that was not accepted, [requests, vocab]; 0 where there is none."""
    law = torch.zeros_like(like)
    column = accepted.clamp(max=rows.own.shape[1] - 2)
    certain = upload(np.array([draft is not None and draft.law is None for draft in rows.drafts]), law.device)
    token = rows.token_ids[:, 1:].gather(1, column[:, None])
    law.scatter_(1, token, (certain & rejects)[:, None].to(law.dtype))
    for group, (places, members) in _groups(rows.drafts).items():
        width = max(len(draft) for draft in members)
        # any row does behind a draft's end: nothing is subtracted there
        table = np.stack([np.resize(draft.law_rows, width) for draft in members])  # pyright: ignore
        at = upload(places, law.device)
        row = upload(table, law.device).gather(1, accepted[at, None].clamp(max=width - 1))[:, 0]
        probability = group.probability[row] * rejects[at, None]
        if group.target_ids is None:
            law[at] = probability.to(law.dtype)
        else:
            law[at[:, None], group.target_ids] = probability.to(law.dtype)
    return law


def _groups(drafts: tuple[Draft | None, ...]) -> dict[DraftLaw, tuple[IntArray, list[Draft]]]:
    """The requests of each law: their places, and their drafts."""
    members: dict[DraftLaw, list[int]] = {}
    for place, draft in enumerate(drafts):
        if draft is not None and draft.law is not None:
            members.setdefault(draft.law, []).append(place)
    return {
        law: (np.array(places, np.int64), [draft for place in places if (draft := drafts[place]) is not None])
        for law, places in members.items()
    }


class RejectionSampler:
    """Drafts are drawn from the drafter's own law, kept with probability min(1, p / q), and replaced from (p - q)+.

    Temperature, top-p and top-k shape the target's law p and the drafter's q alike. What is drawn for a position is
    fixed by the request's seed, so a run repeats; but which draw decides depends on the drafts, so texts differ between
    drafters and from plain decoding. Only their law is the same.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling

    def target_tokens(self, logits: torch.Tensor, seeds: IntArray, positions: IntArray) -> torch.Tensor:
        """Token ids int64 [rows] drawn from the law of target logits [rows, vocab]."""
        return draw(self._law(logits), request_uniforms("emit", seeds, positions, logits.device))

    def draft(
        self,
        logits: torch.Tensor,
        seeds: IntArray,
        positions: IntArray,
        round_start: IntArray,
        target_ids: torch.Tensor | None,
    ) -> DraftedStep:
        """Draw from the law of drafter logits [rows, draft vocab].

        A position that was drafted for in vain is drafted for again in the next round, with fresh draws: whoever chose
        the next drafter may have seen what came of the old ones (`RoundContext.last_confidence`).
        """
        drawn_with = request_uniforms("draft", seeds, positions, logits.device, round_start)
        return self.drafted_by_uniforms(logits, drawn_with, target_ids)

    def drafted_by_uniforms(
        self, logits: torch.Tensor, drawn_with: torch.Tensor, target_ids: torch.Tensor | None
    ) -> DraftedStep:
        """As `draft`, from the numbers themselves, float64 [rows] on the device: nothing depends on the host."""
        law = self._law(logits)
        chosen = draw(law, drawn_with)
        probability = law.gather(-1, chosen[:, None])[:, 0]
        return DraftedStep(chosen if target_ids is None else target_ids[chosen], probability, law)

    def judge(self, logits: torch.Tensor, rows: ScoredRows) -> Verdict:
        """What is kept of each draft and the bonus token behind it, from the target's logits [logit rows, vocab]."""
        return judge_by_law(self._law(logits), rows)

    def _law(self, logits: torch.Tensor) -> torch.Tensor:
        return law_of(logits, RowSampling.alike(len(logits), self._sampling))
