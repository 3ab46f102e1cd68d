"""How sure a drafter is of what it drafts, and where that ends its drafts."""

import numpy as np
import torch

from spinbench.control.arrays import BoolArray, FloatArray, IntArray
from spinbench.control.drafting.confidence import ConfidenceStop
from spinbench.workload.acceptance.probability import encode_probability


def top_probability(logits: torch.Tensor) -> torch.Tensor:
    """Softmax of the largest of logits [rows, vocab], without temperature and noise, in float32 at least."""
    return torch.softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32)).amax(-1)


def mean_confidence(probability: FloatArray, num_kept: IntArray, most: IntArray) -> FloatArray:
    """Mean of each draft's tokens and of the one that ended it before its K, `most`; [requests].

    `probability` [requests, K] is each token's; the other arguments are [requests].
    """
    own = np.arange(probability.shape[1]) < np.minimum(num_kept + 1, most)[:, None]
    return np.where(own, probability, 0.0).sum(1) / own.sum(1)


class DraftConfidence:
    """Follows the drafts of a group, step by step. The numbers stay on the device until one of them is asked for."""

    def __init__(self, num_requests: int, stop: ConfidenceStop | None) -> None:
        self._stop = stop
        self._known = np.zeros((num_requests, 0))
        self._requests: list[IntArray] = []
        """Of each step that is still on the device."""
        self._on_device: list[torch.Tensor] = []

    def add(self, logits: torch.Tensor, requests: IntArray) -> None:
        """The next token of some requests of the group, int [rows], from the drafter's logits [rows, vocab]."""
        self.add_probability(top_probability(logits), requests)

    def add_probability(self, probability: torch.Tensor, requests: IntArray) -> None:
        """The same from `top_probability` of the logits, [rows]."""
        self._requests.append(requests)
        self._on_device.append(probability)

    def go_on(self, requests: IntArray) -> BoolArray:
        """Whether no token has ended their drafts yet; waits for the device."""
        if self._stop is None:
            return np.ones(len(requests), np.bool_)
        probability = self._probabilities()[requests]
        return self._stop.num_kept(encode_probability(probability)) == probability.shape[1]

    def num_kept(self, most: IntArray) -> IntArray:
        """Tokens of each draft, of its `most`; waits for the device if there is a rule."""
        if self._stop is None:
            return most
        return np.minimum(self._stop.num_kept(encode_probability(self._probabilities())), most)

    def means(self, most: IntArray) -> FloatArray:
        """See `mean_confidence`; waits for the device."""
        return mean_confidence(self._probabilities(), self.num_kept(most), most)

    def _probabilities(self) -> FloatArray:
        """Of all tokens so far, [requests, steps], 0 where a request had none."""
        if self._on_device:
            values = torch.cat(self._on_device).double().cpu().numpy()
            steps = np.repeat(np.arange(len(self._requests)), [len(requests) for requests in self._requests])
            new = np.zeros((len(self._known), len(self._requests)))
            new[np.concatenate(self._requests), steps] = values
            self._known = np.concatenate((self._known, new), 1)
            self._requests, self._on_device = [], []
        return self._known
