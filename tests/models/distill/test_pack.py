from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spinbench.models.distill.pack import dequantise_rows, load_packed, packed_tensors, quantise_rows, write_drafter
from spinbench.models.distill.recipe import DrafterRecipe
from spinbench.models.distill.student import Student, initialise
from spinbench.models.load import load_drafter
from spinbench.models.loaded_model import TargetModel, input_embedding


@given(st.integers(0, 1000), st.floats(0.1, 1e3))
def test_rows_come_back_within_half_a_step(seed: int, size: float) -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)) * size
    weight[2] = 0
    q, scale = quantise_rows(weight)
    assert (q.dtype, scale.dtype) == (torch.int8, torch.float16)
    error = (dequantise_rows(q, scale) - weight).abs()
    # half a step of rounding, and at the clamp what the float16 scale is off (2**-11 of the largest)
    assert (error <= scale.float()[:, None] * (0.5 + 127 * 2**-10)).all()
    assert (q[2] == 0).all()


def make_student(target: TargetModel, recipe: DrafterRecipe) -> tuple[Student, torch.Tensor]:
    embedding = input_embedding(target.model).detach()
    target_ids = torch.arange(10, 10 + recipe.draft_vocab_size, dtype=torch.int32)
    student = Student(recipe, embedding, target_ids, torch.float32)
    initialise(student, embedding, None, recipe.seed)
    with torch.no_grad():
        student.head_bias.normal_(generator=torch.Generator().manual_seed(1))
    return student, target_ids


@pytest.mark.parametrize("width", [16, 32])
def test_what_is_written_is_what_loads(target: TargetModel, recipe: DrafterRecipe, tmp_path: Path, width: int) -> None:
    student, target_ids = make_student(target, replace(recipe, hidden_size=width))
    tensors = packed_tensors(student, target_ids)
    write_drafter(tmp_path / "tiny", student, tensors, target="tiny", target_weights_sha256=None, card="# tiny\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == [
        "card.md",
        "drafter.json",
        "weights.safetensors",
    ]
    drafter = load_drafter(str(tmp_path / "tiny"), target)
    assert drafter.target_ids is not None
    assert drafter.target_ids.tolist() == target_ids.tolist()
    assert drafter.macs_per_token == student.recipe.multiply_adds()
    load_packed(student, tensors)
    tokens = torch.randint(0, 260, (2, 9), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours = student.hidden(tokens) @ student.head_weight().T + student.head_bias
        torch.testing.assert_close(ours, drafter.model(tokens).logits, rtol=1e-4, atol=1e-4)


def test_a_drafter_is_replaced_whole(target: TargetModel, recipe: DrafterRecipe, tmp_path: Path) -> None:
    student, target_ids = make_student(target, recipe)
    for card in ("one", "two"):
        tensors = packed_tensors(student, target_ids)
        write_drafter(tmp_path / "tiny", student, tensors, target="tiny", target_weights_sha256=None, card=card)
        assert (tmp_path / "tiny" / "card.md").read_text() == card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]
