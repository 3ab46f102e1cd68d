"""Turns logits into tokens, the same way for plain decoding, verification and drafting."""

from typing import Protocol

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.runtime.draft import DraftedStep, ScoredRows, Verdict
from spinbench.runtime.sampling.law import RowSampling, Sampling, cut, scaled
from spinbench.runtime.sampling.noise import gumbel_noise, noise_keys, noise_of_keys
from spinbench.runtime.sampling.rejection import RejectionSampler
from spinbench.runtime.upload import upload


class TokenSampler(Protocol):
    """Chooses tokens from logits: the target's, a drafter's, and those of a verification."""

    def target_tokens(self, logits: torch.Tensor, seeds: IntArray, positions: IntArray) -> torch.Tensor:
        """Token ids int64 [rows] from target logits [rows, vocab], for `positions` of the requests with `seeds`."""
        ...

    def draft(
        self,
        logits: torch.Tensor,
        seeds: IntArray,
        positions: IntArray,
        round_start: IntArray,
        target_ids: torch.Tensor | None,
    ) -> DraftedStep:
        """One drafted token per row of drafter logits [rows, draft vocab].

        `round_start` is the position at which each request's draft began; `target_ids` maps the drafter's vocabulary to
        the target's.
        """
        ...

    def judge(self, logits: torch.Tensor, rows: ScoredRows) -> Verdict:
        """What is kept of each draft and the bonus token behind it, from the target's logits [logit rows, vocab]."""
        ...


def make_sampler(sampling: Sampling) -> TokenSampler:
    """The sampler that draws as asked for; at temperature 0 all kinds are greedy decoding."""
    if sampling.kind == "rejection" and sampling.temperature > 0:
        return RejectionSampler(sampling)
    return Sampler(sampling)


class Sampler:
    """Greedy, or Gumbel-max with noise fixed by request and position.

    The target's law is softmax(logits / temperature) cut by top-k, then top-p. A drafter is cut by neither: with the
    same noise its best guess at the target's token is its own perturbed maximum.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling

    @property
    def draws(self) -> bool:
        """Whether noise decides, not the logits alone."""
        return self._sampling.temperature > 0

    def target_tokens(self, logits: torch.Tensor, seeds: IntArray, positions: IntArray) -> torch.Tensor:
        """Token ids int64 [rows] from target logits [rows, vocab], for `positions` of the requests with `seeds`."""
        if self._sampling.temperature == 0:
            return logits.argmax(-1)
        rows = RowSampling.alike(len(logits), self._sampling)
        scores = cut(scaled(logits, rows.temperature), rows)
        vocabulary = torch.arange(logits.shape[-1], device=logits.device)
        return (scores + gumbel_noise(seeds, positions, vocabulary)).argmax(-1)

    def draft_scores(
        self,
        logits: torch.Tensor,
        seeds: IntArray,
        positions: IntArray,
        target_ids: torch.Tensor | None,
    ) -> torch.Tensor:
        """What a drafter maximises, [rows, draft vocab]; `target_ids` maps its vocabulary to the target's."""
        if not self.draws:
            return logits
        keys = upload(noise_keys(seeds, positions), logits.device)
        return self._perturbed(logits, keys, target_ids)

    def draft_tokens(
        self,
        logits: torch.Tensor,
        seeds: IntArray,
        positions: IntArray,
        target_ids: torch.Tensor | None,
    ) -> torch.Tensor:
        """Target token ids int64 [rows] from drafter logits [rows, draft vocab]."""
        chosen = self.draft_scores(logits, seeds, positions, target_ids).argmax(-1)
        return chosen if target_ids is None else target_ids[chosen]

    def drafted_by_keys(
        self, logits: torch.Tensor, keys: torch.Tensor | None, target_ids: torch.Tensor | None
    ) -> torch.Tensor:
        """As `draft_tokens`, from `noise_keys` on the device, None without noise: nothing depends on the host."""
        scores = logits if keys is None else self._perturbed(logits, keys, target_ids)
        chosen = scores.argmax(-1)
        return chosen if target_ids is None else target_ids[chosen]

    def _perturbed(self, logits: torch.Tensor, keys: torch.Tensor, target_ids: torch.Tensor | None) -> torch.Tensor:
        vocabulary = torch.arange(logits.shape[-1], device=logits.device) if target_ids is None else target_ids
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # by a tensor, as the target's: on a GPU a division by a number is a product with its inverse
        return wide / wide.new_full((1, 1), self._sampling.temperature) + noise_of_keys(keys, vocabulary)

    def draft_children(
        self,
        logits: torch.Tensor,
        seeds: IntArray,
        positions: IntArray,
        count: int,
        target_ids: torch.Tensor | None,
    ) -> torch.Tensor:
        """The `count` best target token ids of each row of drafter logits, int64 [rows, count], the best one first."""
        keys = upload(noise_keys(seeds, positions), logits.device) if self.draws else None
        return self.children_by_keys(logits, keys, count, target_ids)

    def children_by_keys(
        self, logits: torch.Tensor, keys: torch.Tensor | None, count: int, target_ids: torch.Tensor | None
    ) -> torch.Tensor:
        """As `draft_children`, from `noise_keys` on the device, None without noise: nothing depends on the host."""
        if count == 1:
            return self.drafted_by_keys(logits, keys, target_ids)[:, None]
        scores = logits if keys is None else self._perturbed(logits, keys, target_ids)
        chosen = scores.topk(count, dim=-1).indices
        return chosen if target_ids is None else target_ids[chosen]

    def draft(
        self,
        logits: torch.Tensor,
        seeds: IntArray,
        positions: IntArray,
        round_start: IntArray,
        target_ids: torch.Tensor | None,
    ) -> DraftedStep:
        """As `draft_tokens`: nothing depends on where a draft began, and no law needs to be kept."""
        return DraftedStep(self.draft_tokens(logits, seeds, positions, target_ids))

    def judge(self, logits: torch.Tensor, rows: ScoredRows) -> Verdict:
        """The target's own choices, of which a request keeps those up to the first that its draft did not foresee.

        The target's choice at each row is what plain decoding would emit there, as long as all drafted tokens before it
        were its choice too: so the accepted tokens and the bonus token are a prefix of its choices.
        """
        tokens = rows.token_ids
        requests, positions = rows.places()
        choices = torch.full_like(tokens, -1)
        # by places that the host knows: a mask would make it wait for the device to count them
        places = upload(np.flatnonzero(rows.own), tokens.device)
        choices.view(-1).index_copy_(0, places, self.target_tokens(logits, rows.seeds[requests], positions))
        own = upload(rows.own, tokens.device)
        agree = (choices[:, :-1] == tokens[:, 1:]) & own[:, 1:]
        return Verdict(choices, agree.long().cumprod(1).sum(1))
