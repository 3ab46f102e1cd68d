"""Norms in one kernel are the norms that they replace."""

import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from spinbench.runtime.forward.fused_norm import FusedRmsNorm, fuse_norms, replace_norms
from spinbench.runtime.forward.model_runner import ModelRunner
from spinbench.runtime.kv.slot_table import SlotTable
from tests.runtime import serving, tiny_models


@pytest.mark.parametrize(("family", "per_layer"), [("llama", 2), ("qwen3", 4), ("gpt2", 0)])
def test_every_rms_norm_is_replaced(family: str, per_layer: int) -> None:
    model = tiny_models.random_model(family, 0)
    assert replace_norms(model) == 2 * per_layer + (per_layer > 0)
    assert not [module for module in model.modules() if type(module).__name__.endswith("RMSNorm") and per_layer]


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float64, 1e-6), (torch.float32, 2e-6), (torch.bfloat16, 2e-2)], ids=str
)
def test_the_same_numbers(dtype: torch.dtype, limit: float) -> None:
    norm = LlamaRMSNorm(48, eps=1e-5).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(48, generator=generator))
        hidden = torch.randn(5, 48, generator=generator).to(dtype)
        own, fused = norm(hidden), FusedRmsNorm(norm.weight, norm.variance_epsilon)(hidden)
    assert fused.dtype == dtype
    torch.testing.assert_close(fused, own, rtol=limit, atol=limit)


class OtherRMSNorm(LlamaRMSNorm):
    """As some models have it: the weight is what is added to one."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states) + hidden_states


def test_a_norm_that_does_something_else_is_left_alone() -> None:
    model = nn.Sequential(OtherRMSNorm(8), LlamaRMSNorm(8))
    assert replace_norms(model) == 1
    assert isinstance(model[0], OtherRMSNorm)
    assert isinstance(model[1], FusedRmsNorm)


def test_runs_with_them_are_lossless(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU models keep their own: these serve as they would on a GPU."""
    target = tiny_models.target("llama")
    trace = serving.requests(3, max_new_tokens=8)
    expected = serving.hf_outputs(target, trace)
    fuse_norms(target.model)
    assert [module for module in target.model.modules() if isinstance(module, LlamaRMSNorm)]
    replaced: list[int] = []
    monkeypatch.setattr(
        "spinbench.runtime.forward.model_runner.fuse_norms", lambda model: replaced.append(replace_norms(model))
    )
    ModelRunner(target.model, SlotTable(4, 4))
    got = serving.serve(target, tiny_models.drafters(target), trace, selector="fixed good")
    assert serving.outputs(got) == expected
    assert set(replaced) == {5}
    assert [module for module in target.model.modules() if isinstance(module, LlamaRMSNorm)]
