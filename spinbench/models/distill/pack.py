"""The shipped form of a drafter: int8 weights per output channel, without what it shares with the target."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from spinbench.models.distill.student import Student

FORMAT = 1


def quantise_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 [out, in], float16 scale [out]) with weight about q * scale; a row of zeros gets scale 1."""
    largest = weight.float().abs().amax(dim=1)
    scale = torch.where(largest > 0, largest / 127, torch.ones_like(largest)).to(torch.float16)
    scale = torch.where(scale > 0, scale, torch.finfo(torch.float16).smallest_normal).to(torch.float16)
    q = (weight.float() / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return q, scale


def dequantise_rows(q: Tensor, scale: Tensor) -> Tensor:
    """The float32 weight [out, in] that `quantise_rows` stands for."""
    return q.float() * scale.float()[:, None]


def packed_tensors(student: Student, target_ids: Tensor) -> dict[str, Tensor]:
    """The tensors of `weights.safetensors`."""
    tensors: dict[str, Tensor] = {"target_ids": target_ids.to(torch.int32).contiguous()}
    for name, parameter in student.named_parameters():
        value = parameter.detach().cpu()
        if name == "head_bias":
            tensors["lm_head.bias"] = value.to(torch.float16)
        elif value.ndim == 1:
            tensors[name] = value.to(torch.float16)
        else:
            base = name.removesuffix(".weight")
            tensors[f"{base}.q"], tensors[f"{base}.scale"] = quantise_rows(value)
    return tensors


def load_packed(student: Student, tensors: dict[str, Tensor]) -> None:
    """Put packed weights back into a student, so that scores are those of what ships."""
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            base = name.removesuffix(".weight")
            if name == "head_bias":
                parameter.copy_(tensors["lm_head.bias"].float())
            elif parameter.ndim == 1:
                parameter.copy_(tensors[name].float())
            else:
                parameter.copy_(dequantise_rows(tensors[f"{base}.q"], tensors[f"{base}.scale"]))


def write_drafter(
    folder: Path,
    student: Student,
    tensors: dict[str, Tensor],
    *,
    target: str,
    target_weights_sha256: str | None,
    card: str,
) -> None:
    """Write `drafter.json`, `weights.safetensors` and `card.md` into `folder`, all three or nothing."""
    vocab_size = student.vocab_size
    config: dict[str, Any] = student.recipe.llama_config(vocab_size)
    description = {
        "format": FORMAT,
        "name": student.recipe.name,
        "target": target,
        "target_weights_sha256": target_weights_sha256,
        "config": config,
        "draft_vocab_size": student.recipe.draft_vocab_size,
        "projected": student.projected,
    }
    building = folder.parent / ".building"  # one level deeper than where drafters are looked for
    temporary = building / folder.name
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    (temporary / "drafter.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    weights = temporary / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights)
    weights.chmod(0o644)  # safetensors makes it readable by its owner alone
    (temporary / "card.md").write_text(card, encoding="utf-8")
    if folder.exists():
        os.replace(folder, building / f"{folder.name}.old")
    os.replace(temporary, folder)
    shutil.rmtree(building)
