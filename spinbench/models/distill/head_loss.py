"""Cross entropy against sparse targets through a large head, without keeping the logits."""

from typing import Any

import torch
from torch import Tensor


class SparseCrossEntropy(torch.autograd.Function):
    """Sum over tokens of -sum_j p_j log softmax(W h + b)_j; gradients are formed in the forward, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, indices: Tensor, probs: Tensor, chunk: int
    ) -> Tensor:
        """The summed loss of `hidden` [N, d] under `weight` [V, d], `bias` [V]; `indices` and `probs` are [N, k]."""
        wants_weight = ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wants_weight else None
        grad_bias = torch.zeros_like(bias)
        loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            h = hidden[rows]
            predicted = torch.softmax((h @ weight.t()).float().add_(bias), dim=1)
            at_targets = predicted.gather(1, indices[rows])
            loss -= (probs[rows] * at_targets.clamp_min(1e-20).log()).sum(dtype=torch.float64)
            predicted.scatter_add_(1, indices[rows], -probs[rows])
            grad_bias += predicted.sum(0)
            error = predicted.to(hidden.dtype)
            torch.mm(error, weight, out=grad_hidden[rows])
            if grad_weight is not None:
                grad_weight += error.t() @ h
        ctx.save_for_backward(grad_hidden, grad_bias, *([] if grad_weight is None else [grad_weight]))
        return loss.float()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, Tensor | None, Tensor, None, None, None]:
        """The stored gradients times the incoming one."""
        grad_hidden, grad_bias, *rest = ctx.saved_tensors
        scale = grad_outputs[0]
        grad_weight = (rest[0] * scale) if rest else None
        return grad_hidden * scale.to(grad_hidden.dtype), grad_weight, grad_bias * scale, None, None, None
