"""From logits to the law that tokens are drawn from: temperature, top-k, top-p, for each row its own."""

from dataclasses import dataclass

import numpy as np
import torch

from spinbench.control.arrays import FloatArray, IntArray
from spinbench.errors import UserError
from spinbench.runtime.upload import upload
from spinbench.workload.sampling_kind import SamplingKind


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of a run are drawn; `temperature` 0 is greedy decoding, of whichever kind."""

    temperature: float = 0.0
    top_p: float = 1.0
    """Keep the most probable tokens that together reach this probability; 1 = all."""
    top_k: int = 0
    """Keep this many most probable tokens; 0 = all."""
    kind: SamplingKind = "drafter_invariant"

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"sampling.temperature is {self.temperature}; it must be 0 (greedy) or a positive number")
        if not 0 < self.top_p <= 1:
            raise UserError(f"sampling.top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.top_k < 0:
            raise UserError(f"sampling.top_k is {self.top_k}; it must be 0 (all tokens) or positive")


@dataclass(frozen=True, slots=True)
class RowSampling:
    """How the token of each row is drawn; on the host, so that what nobody asks for is not computed."""

    temperature: FloatArray
    """[rows]; 0 = the likeliest token, always."""
    top_p: FloatArray
    """[rows]; 1 = all tokens."""
    top_k: IntArray
    """[rows]; 0 = all tokens."""

    @classmethod
    def alike(cls, num_rows: int, sampling: Sampling) -> "RowSampling":
        """The same for all rows."""
        return cls(
            np.full(num_rows, sampling.temperature, np.float64),
            np.full(num_rows, sampling.top_p, np.float64),
            np.full(num_rows, sampling.top_k, np.int64),
        )


def scaled(logits: torch.Tensor, temperature: FloatArray) -> torch.Tensor:
    """Logits [rows, vocab] over temperature, in float32 at least; rows of temperature 0 stay as they are."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits / _column(np.where(temperature > 0, temperature, 1.0), logits)


def cut(scores: torch.Tensor, rows: RowSampling) -> torch.Tensor:
    """Scores [rows, vocab] with everything outside top-k, and of the rest outside top-p, at -inf."""
    vocab_size = scores.shape[-1]
    top_k = np.where(rows.top_k > 0, np.minimum(rows.top_k, vocab_size), vocab_size)
    if (top_k < vocab_size).any():
        best = scores.topk(int(top_k.max()), dim=-1).values
        threshold = best[:, -1:] if _are_alike(top_k) else best.gather(-1, upload(top_k - 1, scores.device)[:, None])
        scores = scores.masked_fill(scores < threshold, float("-inf"))
    if (rows.top_p < 1).any():
        ordered, order = scores.sort(dim=-1, descending=True)
        probability = ordered.softmax(-1)
        # a token stays if those before it do not reach top_p yet, so the first always stays
        limit = _column(np.where(rows.top_p < 1, rows.top_p, np.inf), scores)
        outside = probability.cumsum(-1) - probability >= limit
        scores = scores.masked_fill(outside.scatter(-1, order, outside), float("-inf"))
    return scores


def law_of(logits: torch.Tensor, rows: RowSampling) -> torch.Tensor:
    """Probabilities [rows, vocab] that tokens are drawn with: softmax(logits / temperature), cut and renormalised.

    At temperature 0 all of it is on the first of the largest logits.
    """
    law = cut(scaled(logits, rows.temperature), rows).softmax(-1)
    greedy = rows.temperature == 0
    if greedy.any():
        sure = torch.zeros_like(law).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        law = torch.where(upload(greedy, law.device)[:, None], sure, law)
    return law


def draw(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """One token per row, int64 [rows], with probabilities in proportion to `weights` [rows, vocab].

    The inverse of the distribution function at `uniforms` [rows] in [0, 1). A token of weight 0 is never drawn.
    """
    cumulated = weights.double().cumsum(-1)
    aim = uniforms[:, None] * cumulated[:, -1:]
    # the last token with weight, should rounding carry the aim up to the sum
    return torch.minimum((cumulated <= aim).sum(-1), (cumulated < cumulated[:, -1:]).sum(-1))


def _column(values: FloatArray, like: torch.Tensor) -> torch.Tensor:
    """[rows, 1], or [1, 1] for all: then nothing comes from the host, so that a CUDA graph may hold it."""
    if _are_alike(values):
        return like.new_full((1, 1), float(values[0]))
    return upload(values, like.device).to(like.dtype)[:, None]


def _are_alike(values: FloatArray | IntArray) -> bool:
    return len(values) > 0 and bool((values == values[0]).all())
