from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from spinbench.errors import UserError
from spinbench.models.gguf_convert import convert_gguf
from tests.models.tiny_models import tiny_llama, write_gguf


@pytest.mark.parametrize("tied", [True, False])
def test_converted_model_computes_the_same_logits(tmp_path: Path, tied: bool) -> None:
    model = tiny_llama(tie_word_embeddings=tied, rms_norm_eps=1e-5)
    folder = tmp_path / "model"
    folder.mkdir()

    convert_gguf(write_gguf(model, tmp_path / "tiny.gguf"), folder)

    converted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.arange(3, 40)[None]
    assert torch.equal(converted(ids).logits, model(ids).logits)
    assert converted.config.rms_norm_eps == 1e-5
    assert converted.config.tie_word_embeddings is tied
    assert converted.generation_config.eos_token_id == 2
    assert converted.config.max_position_embeddings == 64


def test_quantised_rows_come_back_within_half_a_step(tmp_path: Path) -> None:
    model = tiny_llama()
    folder = tmp_path / "model"
    folder.mkdir()

    convert_gguf(write_gguf(model, tmp_path / "tiny.gguf", q8=True), folder)

    converted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    for name, original in model.state_dict().items():
        # Q8_0: blocks of 32 values with one step, the block's largest value / 127; the step itself is rounded to float16
        step = original.abs().reshape(-1, 32).amax(1).max() / 127
        assert (converted[name] - original).abs().max() <= 0.6 * step, name


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    gguf = write_gguf(tiny_llama(), tmp_path / "tiny.gguf", architecture="mamba")
    with pytest.raises(UserError, match=r"architecture 'mamba'; only 'llama'"):
        convert_gguf(gguf, tmp_path)
