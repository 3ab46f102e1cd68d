"""A tiny random Llama with a byte tokenizer and a chat template: enough target for every stage."""

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from spinbench.models.distill.recipe import DrafterRecipe, TrainingPhase
from spinbench.models.loaded_model import TargetModel

CHAT_TEMPLATE = (
    "<system>be brief<end>{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SPECIAL = ("<end>", "<system>", "<user>", "<assistant>")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<end>", chat_template=CHAT_TEMPLATE, clean_up_tokenization_spaces=False
    )


@pytest.fixture(scope="session")
def target() -> TargetModel:
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=256,
        bos_token_id=None,
    )
    torch.manual_seed(3)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0, 0.3)  # sharper than a fresh model, so that answers differ
    return TargetModel("tiny", "path", model, tokenizer, frozenset({256}), 256, "0" * 64)


@pytest.fixture
def recipe() -> DrafterRecipe:
    return DrafterRecipe(
        name="tiny-d16",
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        draft_vocab_size=200,
        phases=(TrainingPhase(2.0),),
        learning_rate=5e-3,
        warmup_steps=2,
        tokens_per_batch=256,
        seed=7,
    )
