"""Tiny random models in every form that the loaders read."""

import json
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from spinbench.models.gguf_convert import LAYER_WEIGHTS

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTE_TOKENS = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = ["t h", "th e", "Ġ the", "1 2"]
MERGED_TOKENS = ["th", "the", "Ġthe", "12"]
TOKENS = SPECIAL_TOKENS + BYTE_TOKENS + MERGED_TOKENS
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_llama(vocab_size: int = len(TOKENS), width: int = 32, seed: int = 0, **config: object) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    settings: dict[str, object] = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "tie_word_embeddings": True,
    }
    model = LlamaForCausalLM(LlamaConfig(**(settings | config)))  # type: ignore[arg-type]
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def save_model(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def write_gguf(
    model: LlamaForCausalLM, path: Path, *, architecture: str = "llama", pre: str = "smollm", q8: bool = False
) -> Path:
    config = model.config
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(SPECIAL_TOKENS) + [1] * (len(TOKENS) - len(SPECIAL_TOKENS)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)
    parts = {theirs: ours for ours, theirs in LAYER_WEIGHTS.items()}
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        weight = tensor.numpy()
        if name == "model.embed_tokens.weight":
            gguf_name = "token_embd.weight"
        elif name == "model.norm.weight":
            gguf_name = "output_norm.weight"
        elif name == "lm_head.weight":
            if config.tie_word_embeddings:
                continue
            gguf_name = "output.weight"
        else:
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            gguf_name = f"blk.{layer}.{parts[part]}.weight"
            if parts[part] in heads:  # llama.cpp's order: the two halves of a head's rows interleaved
                rows = weight.reshape(heads[parts[part]], 2, -1, weight.shape[1])
                weight = np.ascontiguousarray(rows.swapaxes(1, 2).reshape(weight.shape))
        if q8 and weight.ndim == 2:
            q8_0 = GGMLQuantizationType.Q8_0
            writer.add_tensor(gguf_name, quantize(weight, q8_0), raw_dtype=q8_0)
        else:
            writer.add_tensor(gguf_name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_packed_drafter(
    folder: Path, *, vocab_size: int, target_width: int, width: int, target_ids: list[int], seed: int = 0
) -> dict[str, torch.Tensor]:
    """A packed drafter folder with random weights; returns what it stores, as float32, int8 rows multiplied out."""
    generator = torch.Generator().manual_seed(seed)
    config = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"},
        "max_position_embeddings": 64,
    }
    linear = {"q_proj": (16, width), "k_proj": (8, width), "v_proj": (8, width), "o_proj": (width, 16)}
    mlp = {"gate_proj": (24, width), "up_proj": (24, width), "down_proj": (width, 24)}
    shapes: dict[str, tuple[int, int]] = {}
    norms = ["model.norm.weight"]
    for layer in range(2):
        shapes |= {f"model.layers.{layer}.self_attn.{name}": shape for name, shape in linear.items()}
        shapes |= {f"model.layers.{layer}.mlp.{name}": shape for name, shape in mlp.items()}
        norms += [f"model.layers.{layer}.{name}.weight" for name in ("input_layernorm", "post_attention_layernorm")]
    projected = width != target_width
    if projected:
        shapes |= {"embed_projection": (width, target_width), "head_projection": (width, target_width)}
    stored: dict[str, torch.Tensor] = {"target_ids": torch.tensor(target_ids, dtype=torch.int32)}
    meant: dict[str, torch.Tensor] = {}
    for name, (rows, columns) in shapes.items():
        q = torch.randint(-127, 128, (rows, columns), generator=generator).to(torch.int8)
        scale = (torch.rand(rows, generator=generator) * 0.006 + 0.001).to(torch.float16)
        stored[f"{name}.q"], stored[f"{name}.scale"] = q, scale
        meant[name] = q.float() * scale.float()[:, None]
    for name in norms:
        stored[name] = (torch.rand(width, generator=generator) + 0.5).to(torch.float16)
        meant[name] = stored[name].float()
    stored["lm_head.bias"] = torch.randn(len(target_ids), generator=generator).to(torch.float16)
    meant["lm_head.bias"] = stored["lm_head.bias"].float()
    description = {
        "format": 1,
        "name": folder.name,
        "target": "tiny",
        "target_weights_sha256": None,
        "config": config,
        "draft_vocab_size": len(target_ids),
        "projected": projected,
    }
    folder.mkdir(parents=True)
    (folder / "drafter.json").write_text(json.dumps(description))
    save_file(stored, folder / "weights.safetensors")
    (folder / "card.md").write_text("# tiny\n")
    return meant
