"""Linear layers with weights laid out once for oneDNN, instead of at every call."""

import torch
from torch import nn
from transformers import PreTrainedModel

from spinbench.models.tensor_parallel import num_shares

PACKABLE_DTYPES = (torch.bfloat16, torch.float32)


class PackedLinear(nn.Linear):
    """A linear layer for inference on a CPU; same weight, same result up to rounding.

    torch lays a weight out for oneDNN at each call, which for the few rows of a decoding step costs as much as the
    product. `benchmarks/packed_linear.py` measures both.
    """

    def __init__(self, source: nn.Linear) -> None:
        nn.Module.__init__(self)  # no weights of its own to initialise
        self.in_features, self.out_features = source.in_features, source.out_features
        self.weight, self.bias = source.weight, source.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(source.weight.detach())

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[..., in_features] -> [..., out_features]"""
        return torch.ops.mkldnn._linear_pointwise(input, self._packed, self.bias, "none", [], "")


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether oneDNN can serve this dtype here, through the operators that torch's own compiler uses."""
    if device.type != "cpu" or dtype not in PACKABLE_DTYPES or not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def pack_linears(model: PreTrainedModel) -> None:
    """Replace every linear layer of `model` where oneDNN can serve it; else leave it alone, as in a part of a model."""
    if not can_pack(model.dtype, model.device) or num_shares(model.config) > 1:
        return
    with torch.no_grad():
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is nn.Linear:
                    setattr(parent, name, PackedLinear(child))
