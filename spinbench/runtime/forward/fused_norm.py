"""RMS norms as one kernel on a GPU, where transformers' own are eight."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from spinbench.models.tensor_parallel import num_shares

PROBE_ROWS = 3
TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float32: 1e-5, torch.float64: 1e-5}
"""Relative difference allowed to the norm that is replaced: a rounding or two; models make it in float32 even in
float64."""


class FusedRmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension; the product with the weight is rounded once."""

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight = weight
        self._eps = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., width] -> [..., width]"""
        return F.rms_norm(hidden, self.weight.shape, self.weight, self._eps)


def fuse_norms(model: PreTrainedModel) -> None:
    """Replace every RMS norm of a model on a GPU: for few rows a pass's many small kernels count beside its products.

    Left alone are parts of a shared model, and norms that do something else, as a trial shows.
    """
    if model.device.type == "cuda" and num_shares(model.config) == 1:
        replace_norms(model)


def replace_norms(model: nn.Module) -> int:
    """Those of any model on any device; their number."""
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            fused = _fused(child)
            if fused is not None:
                setattr(parent, name, fused)
                count += 1
    return count


def _fused(module: nn.Module) -> FusedRmsNorm | None:
    weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(eps, float):
        return None
    if not isinstance(weight, nn.Parameter) or weight.dtype not in TOLERANCE:
        return None
    fused = FusedRmsNorm(weight, eps)
    with torch.no_grad():
        probe = torch.linspace(-3, 3, PROBE_ROWS * len(weight), device=weight.device).view(PROBE_ROWS, -1)
        own, other = (norm(probe.to(weight.dtype)) for norm in (module, fused))
    limit = TOLERANCE[weight.dtype]
    return fused if own.dtype == other.dtype and torch.allclose(own, other, rtol=limit, atol=limit) else None
