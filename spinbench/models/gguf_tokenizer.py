"""A byte-level BPE tokenizer rebuilt from the token and merge lists of a GGUF file.

The conversion in transformers adds a token and does not round-trip for SmolLM2, hence this one.
"""

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from spinbench.errors import UserError

CONTROL_TOKEN_TYPE = 3


def tokenizer_from_gguf(fields: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer that the GGUF's header describes. Raises UserError unless it is SmolLM's kind of byte-level BPE."""
    kind = (fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise UserError(
            f"GGUF tokenizer {kind[0]!r} with pre-tokenizer {kind[1]!r}; only 'gpt2' with 'smollm' is known"
        )
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    backend = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL_TOKEN_TYPE]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    named = {
        "bos_token": tokens[fields["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[fields["tokenizer.ggml.padding_token_id"]],
        "unk_token": tokens[fields["tokenizer.ggml.unknown_token_id"]],
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **named,
        model_max_length=fields["llama.context_length"],
        clean_up_tokenization_spaces=False,
        chat_template=fields.get("tokenizer.chat_template"),
    )
