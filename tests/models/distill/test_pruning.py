from dataclasses import replace

import numpy as np
import pytest
import torch

from spinbench.errors import UserError
from spinbench.models.distill.dataset import SelfPlayLine
from spinbench.models.distill.pruning import pruned_weights, unit_strengths
from spinbench.models.distill.recipe import DrafterRecipe
from spinbench.models.distill.student import MLP, Student, initialise

IDS = np.arange(0, 300, 2, dtype=np.int32)[:120]
LINES = [SelfPlayLine(2, np.arange(i, i + 20)) for i in range(5)]


def make_student(recipe: DrafterRecipe, ids: np.ndarray) -> tuple[Student, torch.Tensor]:
    embedding = torch.randn(300, 32, generator=torch.Generator().manual_seed(1))
    student = Student(replace(recipe, draft_vocab_size=len(ids)), embedding, torch.from_numpy(ids), torch.float32)
    initialise(student, embedding, None, recipe.seed)
    with torch.no_grad():
        student.head_bias.normal_(generator=torch.Generator().manual_seed(2))
    return student, embedding


def mlps(student: Student) -> list[MLP]:
    return [module for module in student.modules() if isinstance(module, MLP)]


def test_units_that_write_nothing_are_cut_without_a_trace(recipe: DrafterRecipe) -> None:
    source, embedding = make_student(recipe, IDS)
    dead = [torch.tensor([0, 3, 7, 11]), torch.tensor([1, 2, 20, 23])]
    with torch.no_grad():
        for mlp, units in zip(mlps(source), dead, strict=True):
            mlp.down_proj.weight[:, units] = 0
    ids = IDS[10:60]
    slim_recipe = replace(recipe, intermediate_size=20, draft_vocab_size=50)
    slim = Student(slim_recipe, embedding, torch.from_numpy(ids), torch.float32)
    weights = pruned_weights(source, IDS, slim_recipe, ids, LINES, np.arange(5))
    initialise(slim, embedding, weights, 0)
    tokens = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        whole = source.hidden(tokens) @ source.head_weight().T + source.head_bias
        cut = slim.hidden(tokens) @ slim.head_weight().T + slim.head_bias
    torch.testing.assert_close(cut, whole[..., 10:60])


def test_new_draft_tokens_start_without_bias(recipe: DrafterRecipe) -> None:
    source, _ = make_student(recipe, IDS)
    ids = np.array([0, 1, 2], dtype=np.int32)  # 1 is odd: not in the source's vocabulary
    weights = pruned_weights(source, IDS, replace(recipe, draft_vocab_size=3), ids, LINES, np.arange(5))
    assert weights["head_bias"].tolist() == [
        float(source.head_bias.detach()[0]),
        0.0,
        float(source.head_bias.detach()[1]),
    ]


def test_strength_grows_with_what_a_unit_writes(recipe: DrafterRecipe) -> None:
    source, _ = make_student(recipe, IDS)
    before = unit_strengths(source, LINES, np.arange(5))
    with torch.no_grad():
        mlps(source)[1].down_proj.weight[:, 4] *= 3  # the last layer, so that no activation changes
    after = unit_strengths(source, LINES, np.arange(5))
    assert after[1][4] == pytest.approx(3 * float(before[1][4]))
    assert torch.equal(after[0], before[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"num_hidden_layers": 1}, "num_hidden_layers is 1"), ({"intermediate_size": 25}, "intermediate_size 25 is more")],
)
def test_other_shapes_are_refused(recipe: DrafterRecipe, change: dict, message: str) -> None:
    source, _ = make_student(recipe, IDS)
    with pytest.raises(UserError, match=message):
        pruned_weights(source, IDS, replace(recipe, **change), IDS, LINES, np.arange(5))
