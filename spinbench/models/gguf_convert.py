"""A llama-architecture GGUF file, turned into a Hugging Face model folder with exact float32 weights."""

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file
from transformers import GenerationConfig, LlamaConfig

from spinbench.errors import UserError
from spinbench.models.gguf_tokenizer import tokenizer_from_gguf

LAYER_WEIGHTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
OUTER_WEIGHTS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write config, generation config, float32 safetensors and tokenizer of `gguf` into the existing `folder`.

    float32 because it holds every dequantised 4-bit value exactly. Raises UserError for another architecture.
    """
    reader = GGUFReader(gguf)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    if fields.get("general.architecture") != "llama":
        raise UserError(f"{gguf}: architecture {fields.get('general.architecture')!r}; only 'llama' can be converted")
    weights = read_weights(reader, fields)
    llama_config(fields, weights).save_pretrained(folder)
    GenerationConfig(
        bos_token_id=fields["tokenizer.ggml.bos_token_id"],
        eos_token_id=fields["tokenizer.ggml.eos_token_id"],
        pad_token_id=fields["tokenizer.ggml.padding_token_id"],
        do_sample=False,
    ).save_pretrained(folder)
    tokenizer_from_gguf(fields).save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def read_weights(reader: GGUFReader, fields: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Dequantised weights under their Hugging Face names."""
    heads = {"attn_q": fields["llama.attention.head_count"], "attn_k": fields["llama.attention.head_count_kv"]}
    weights: dict[str, NDArray[np.float32]] = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name in OUTER_WEIGHTS:
            name = OUTER_WEIGHTS[tensor.name]
        else:
            _, layer, part, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{LAYER_WEIGHTS[part]}.weight"
            if part in heads:
                weight = split_rotary_halves(weight, heads[part])
        weights[name] = np.ascontiguousarray(weight)
    return weights


def split_rotary_halves(weight: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Rows [heads * dim, in] from GGUF's order (rotated pairs side by side) to transformers' (first halves first)."""
    half = weight.shape[0] // num_heads // 2
    return weight.reshape(num_heads, half, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def llama_config(fields: dict[str, Any], weights: dict[str, NDArray[np.float32]]) -> LlamaConfig:
    """The transformers config that the GGUF's header describes."""
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=weights["model.embed_tokens.weight"].shape[0],
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        # stored as a float32, so 1e-5 comes back as 9.99999975e-06; seven digits are what it had
        rms_norm_eps=float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.7g}"),
        rope_parameters={"rope_theta": fields["llama.rope.freq_base"], "rope_type": "default"},
        max_position_embeddings=fields["llama.context_length"],
        tie_word_embeddings="lm_head.weight" not in weights,
        bos_token_id=fields["tokenizer.ggml.bos_token_id"],
        eos_token_id=fields["tokenizer.ggml.eos_token_id"],
        pad_token_id=fields["tokenizer.ggml.padding_token_id"],
        dtype="float32",
    )
