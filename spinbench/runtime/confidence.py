"""How sure a drafter is of what it drafts, and where that ends its drafts."""

import torch

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.confidence import ConfidenceStop
from spinbench.workload.acceptance.probability import LOWEST, STEPS_PER_HALVING


def top_probability(logits: torch.Tensor) -> torch.Tensor:
    """Softmax of the largest of logits [rows, vocab], without temperature and noise, in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (logits.max(-1).values - logits.logsumexp(-1)).exp()


def probability_code(probability: torch.Tensor) -> torch.Tensor:
    """`encode_probability` on the device, int64."""
    return (-STEPS_PER_HALVING * probability.double().log2()).round().clamp(0, LOWEST).long()


class DraftConfidence:
    """Follows the drafts of a group token by token. All of it stays on the device until it is asked for."""

    def __init__(self, stop: ConfidenceStop | None, num_requests: int, device: torch.device) -> None:
        self._stop = stop
        self._total = torch.zeros(num_requests, dtype=torch.int64, device=device)
        self._goes_on = torch.ones(num_requests, dtype=torch.bool, device=device)
        self._num_kept = torch.zeros_like(self._total)
        self._num_seen = torch.zeros_like(self._total)
        self._sum = torch.zeros(num_requests, dtype=torch.float64, device=device)

    def add(self, logits: torch.Tensor, requests: torch.Tensor) -> None:
        """The next token of some requests, int64 [rows], from the drafter's logits [rows, vocab]."""
        probability = top_probability(logits)
        before = self._goes_on[requests]
        self._sum[requests] += probability * before
        self._num_seen[requests] += before
        if self._stop is not None:
            total = self._stop.total(self._total[requests], probability_code(probability))
            self._total[requests] = total
            before = before & self._stop.goes_on(total)
            self._goes_on[requests] = before
        self._num_kept[requests] += before

    def goes_on(self, requests: torch.Tensor) -> BoolArray:
        """Whether their drafts have not ended; waits for the device."""
        return self._goes_on[requests].cpu().numpy()

    def num_kept(self) -> IntArray:
        """Tokens of each draft before its end; waits for the device."""
        return self._num_kept.cpu().numpy()

    def means(self) -> FloatArray:
        """Mean probability of each draft's tokens and the one that ended it; waits for the device."""
        return (self._sum / self._num_seen).cpu().numpy()
