from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from spinbench.models.distill.head_loss import SparseCrossEntropy
from spinbench.models.distill.recipe import DrafterRecipe
from spinbench.models.distill.student import Student, initialise

TARGET_WIDTH = 32


def make_student(recipe: DrafterRecipe) -> tuple[Student, torch.Tensor, torch.Tensor]:
    embedding = torch.randn(300, TARGET_WIDTH, generator=torch.Generator().manual_seed(1))
    target_ids = torch.arange(0, 300, 2)[: recipe.draft_vocab_size].to(torch.int32)
    recipe = replace(recipe, draft_vocab_size=len(target_ids))
    student = Student(recipe, embedding, target_ids, torch.float32)
    initialise(student, embedding, None, recipe.seed)
    with torch.no_grad():
        for norm in (p for n, p in student.named_parameters() if "norm" in n):
            norm.uniform_(0.5, 1.5)
    return student, embedding, target_ids


@pytest.mark.parametrize("width", [16, TARGET_WIDTH])
def test_the_body_is_a_transformers_llama(recipe: DrafterRecipe, width: int) -> None:
    student, embedding, target_ids = make_student(replace(recipe, hidden_size=width))
    assert student.projected == (width != TARGET_WIDTH)
    llama = LlamaForCausalLM(LlamaConfig(**student.recipe.llama_config(300), tie_word_embeddings=False)).eval()
    llama.lm_head = nn.Linear(width, len(target_ids))
    rows = embedding[target_ids.long()]
    state = {n: p for n, p in student.state_dict().items() if n.startswith("model.")}
    state["model.embed_tokens.weight"] = embedding @ student.embed_projection.T if student.projected else embedding
    state["lm_head.weight"] = rows @ student.head_projection.T if student.projected else rows
    state["lm_head.bias"] = student.head_bias
    llama.load_state_dict(state, strict=True)
    tokens = torch.randint(0, 300, (3, 17), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours = student.hidden(tokens) @ student.head_weight().T + student.head_bias
        torch.testing.assert_close(ours, llama(tokens).logits, rtol=1e-4, atol=1e-4)


def test_kept_positions_are_the_same_ones(recipe: DrafterRecipe) -> None:
    student, _, _ = make_student(recipe)
    tokens = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(2))
    keep = torch.tensor([3, 4, 8, 9, 17])
    with torch.no_grad():
        torch.testing.assert_close(student.hidden(tokens, keep), student.hidden(tokens).flatten(0, 1)[keep])


def test_only_own_weights_are_in_the_state(recipe: DrafterRecipe) -> None:
    student, _, _ = make_student(recipe)
    assert not [name for name in student.state_dict() if name in {"embedding", "head_rows"}]


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_head_loss_and_gradients_equal_autograd(chunk: int) -> None:
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(11, 6, generator=generator, requires_grad=True)
    weight = torch.randn(20, 6, generator=generator, requires_grad=True)
    bias = torch.randn(20, generator=generator, requires_grad=True)
    indices = torch.randint(0, 20, (11, 4), generator=generator)  # repeated indices add up
    probs = torch.rand(11, 4, generator=generator)
    probs = probs / probs.sum(1, keepdim=True)
    wanted = -(probs * torch.log_softmax(hidden @ weight.T + bias, 1).gather(1, indices)).sum() / 11
    wanted.backward()
    leaves = (hidden, weight, bias)
    expected = [leaf.grad.clone() for leaf in leaves if leaf.grad is not None]
    for leaf in leaves:
        leaf.grad = None
    loss = SparseCrossEntropy.apply(hidden, weight, bias, indices, probs, chunk) / 11
    loss.backward()
    torch.testing.assert_close(loss, wanted)
    for leaf, grad in zip(leaves, expected, strict=True):
        torch.testing.assert_close(leaf.grad, grad)
