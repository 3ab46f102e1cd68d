"""Turns logits into tokens, the same way for plain decoding, verification and drafting."""

from dataclasses import dataclass

import torch

from spinbench.control.arrays import IntArray
from spinbench.errors import UserError
from spinbench.runtime.noise import gumbel_noise


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. `temperature` 0 is greedy decoding; above 0 sampling is drafter-invariant."""

    temperature: float = 0.0
    top_p: float = 1.0
    """Keep the most probable tokens that together reach this probability; 1 = all."""
    top_k: int = 0
    """Keep this many most probable tokens; 0 = all."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"sampling.temperature is {self.temperature}; it must be 0 (greedy) or a positive number")
        if not 0 < self.top_p <= 1:
            raise UserError(f"sampling.top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.top_k < 0:
            raise UserError(f"sampling.top_k is {self.top_k}; it must be 0 (all tokens) or positive")


class Sampler:
    """Greedy, or Gumbel-max with noise fixed by request and position.

    The target's law is softmax(logits / temperature) cut by top-k, then top-p. A drafter is cut by neither: with the
    same noise its best guess at the target's token is its own perturbed maximum.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling

    def target_tokens(self, logits: torch.Tensor, seeds: IntArray, positions: IntArray) -> torch.Tensor:
        """Token ids int64 [rows] from target logits [rows, vocab], for `positions` of the requests with `seeds`."""
        if self._sampling.temperature == 0:
            return logits.argmax(-1)
        scores = self._cut(_at_least_float32(logits) / self._sampling.temperature)
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
        if self._sampling.temperature == 0:
            return logits
        vocabulary = torch.arange(logits.shape[-1], device=logits.device) if target_ids is None else target_ids
        return _at_least_float32(logits) / self._sampling.temperature + gumbel_noise(seeds, positions, vocabulary)

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

    def _cut(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocab] with everything outside top-k and top-p at -inf."""
        top_k, top_p = self._sampling.top_k, self._sampling.top_p
        if 0 < top_k < scores.shape[-1]:
            threshold = scores.topk(top_k, dim=-1).values[:, -1:]
            scores = scores.masked_fill(scores < threshold, float("-inf"))
        if top_p < 1:
            ordered, order = scores.sort(dim=-1, descending=True)
            probability = ordered.softmax(-1)
            # a token stays if those before it do not reach top_p yet, so the first always stays
            outside = probability.cumsum(-1) - probability >= top_p
            scores = scores.masked_fill(outside.scatter(-1, order, outside), float("-inf"))
        return scores


def _at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
