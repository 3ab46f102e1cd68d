import pytest
import torch
from torch import nn

from spinbench.models.loaded_model import copy_sharing_weights
from spinbench.runtime.forward.packed_linear import PACKABLE_DTYPES, PackedLinear, can_pack, pack_linears
from tests.runtime import tiny_models

CPU = torch.device("cpu")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", PACKABLE_DTYPES)
def test_same_result_up_to_rounding(dtype, bias):
    if not can_pack(dtype, CPU):
        pytest.skip("oneDNN does not serve this dtype here")
    torch.manual_seed(0)
    layer = nn.Linear(96, 200, bias=bias, dtype=dtype)
    packed = PackedLinear(layer)
    with torch.inference_mode():
        for rows in (torch.randn(1, 1, 96), torch.randn(7, 96), torch.randn(96, 5).T, torch.randn(1, 0, 96)):
            expected = layer(rows.to(dtype))
            assert packed(rows.to(dtype)).shape == expected.shape
            torch.testing.assert_close(packed(rows.to(dtype)), expected)


def test_the_callers_model_is_left_as_it_was():
    model = tiny_models.random_model("llama", 0, dtype=torch.float32)
    model.set_attn_implementation("sdpa")
    copied = copy_sharing_weights(model)
    pack_linears(copied)
    copied.set_attn_implementation("eager")
    assert type(model.model.layers[0].mlp.up_proj) is nn.Linear
    assert model.config._attn_implementation == "sdpa"
    assert copied.model.layers[0].mlp.up_proj.weight is model.model.layers[0].mlp.up_proj.weight
    if can_pack(torch.float32, CPU):
        assert type(copied.model.layers[0].mlp.up_proj) is PackedLinear


def test_float64_stays_as_it_is():
    model = tiny_models.random_model("llama", 0)
    pack_linears(model)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
