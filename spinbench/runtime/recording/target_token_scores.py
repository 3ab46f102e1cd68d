"""What a drafter thinks of the tokens that the target chose: ranks and probabilities, row by row of its logits."""

import numpy as np
import torch

from spinbench.control.arrays import IntArray
from spinbench.errors import UserError
from spinbench.models.loaded_model import DrafterModel
from spinbench.runtime.sampling.confidence import top_probability
from spinbench.runtime.sampling.sampler import Sampler, Sampling
from spinbench.runtime.upload import upload
from spinbench.workload.acceptance.table import OUTSIDE_VOCABULARY


class TargetTokenScores:
    """Compares a drafter's logits with the tokens that the target chose."""

    def __init__(self, drafter: DrafterModel, sampling: Sampling) -> None:
        self._name = drafter.name
        self._target_ids = drafter.target_ids
        self.sampler = Sampler(sampling)
        self._draft_ids: torch.Tensor | None = None
        """int64 [target ids]: output id of the drafter for each target id, -1 = none; None = the same."""
        if drafter.target_ids is not None:
            ids = drafter.target_ids
            self._draft_ids = torch.full((int(ids.max()) + 1,), -1, dtype=torch.int64, device=ids.device)
            self._draft_ids[ids] = torch.arange(len(ids), device=ids.device)

    def score(
        self, logits: torch.Tensor, token_ids: IntArray, seeds: IntArray, places: IntArray
    ) -> tuple[IntArray, np.ndarray, np.ndarray, IntArray]:
        """Rank, probability, top-1 probability and drafted token of each row of logits [rows, vocab]."""
        scores = self.sampler.draft_scores(logits, seeds, places, self._target_ids)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        chosen = self._draft_id(upload(token_ids.astype(np.int64), logits.device))
        known = (chosen >= 0) & (chosen < logits.shape[-1])
        column = torch.where(known, chosen, 0)[:, None]
        rank = (scores > scores.gather(-1, column)).sum(-1)
        # of tokens with equal scores one is drafted: the others were not accepted
        best = scores.argmax(-1)
        rank = torch.where(best == chosen, 0, rank.clamp(1, OUTSIDE_VOCABULARY))
        rank = torch.where(known, rank, OUTSIDE_VOCABULARY)
        norm = logits.logsumexp(-1)
        probability = torch.where(known, (logits.gather(-1, column)[:, 0] - norm).exp(), 0)
        if not torch.isfinite(norm).all():
            raise UserError(
                f"drafter {self._name!r}: its logits are not finite; its weights do not fit this number format"
            )
        drafted = best if self._target_ids is None else self._target_ids[best]
        columns = (rank, probability.double(), top_probability(logits).double(), drafted)
        return tuple(column.cpu().numpy() for column in columns)  # type: ignore[return-value]

    def _draft_id(self, token_ids: torch.Tensor) -> torch.Tensor:
        if self._draft_ids is None:
            return token_ids
        inside = token_ids < len(self._draft_ids)
        return torch.where(inside, self._draft_ids[torch.where(inside, token_ids, 0)], -1)
