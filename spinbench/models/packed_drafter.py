"""The form in which a distilled drafter ships: int8 rows, and nothing that it shares with the target.

A folder holds `drafter.json`, `weights.safetensors` and `card.md`. A linear weight W [out, in] is stored as `<name>.q`
int8 [out, in] and `<name>.scale` float16 [out] with W about q * scale; norms are float16 under their usual names. With
E the target's input embedding, a drafter as wide as the target uses E as its embedding and E[target_ids] as its head; a
narrower one ("projected") uses E @ embed_projection.T and E[target_ids] @ head_projection.T.
"""

from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from spinbench.checked_file import error_in
from spinbench.errors import UserError
from spinbench.file_digest import file_sha256
from spinbench.models.checkpoint import first_line
from spinbench.models.loaded_model import DrafterModel, TargetModel, input_embedding, macs_per_token

PACKAGED_FOLDER = Path(__file__).parent / "drafters"


class RopeParameters(BaseModel):
    """Rotary positions as transformers 5 spells them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rope_theta: float = Field(gt=0)
    rope_type: Literal["default"] = "default"


class BodyConfig(BaseModel):
    """The shape of a drafter's Llama layers; `vocab_size` is the target's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int = Field(ge=1)
    head_dim: int = Field(ge=2)
    rms_norm_eps: float = Field(gt=0)
    rope_parameters: RopeParameters
    max_position_embeddings: int = Field(ge=1)


class DrafterDescription(BaseModel):
    """What `drafter.json` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    name: str
    target: str
    target_weights_sha256: str | None
    config: BodyConfig
    draft_vocab_size: int = Field(ge=1)
    projected: bool


def packaged_drafters() -> tuple[str, ...]:
    """Names of the drafters that come with the package, sorted."""
    return tuple(sorted(path.parent.name for path in PACKAGED_FOLDER.glob("*/drafter.json")))


def find_packed_drafter(spec: str) -> Path | None:
    """The folder of a packaged drafter or of a path that holds `drafter.json`, if `spec` is one."""
    if spec in packaged_drafters():
        return PACKAGED_FOLDER / spec
    path = Path(spec).expanduser()
    return path if (path / "drafter.json").is_file() else None


def read_description(folder: Path) -> DrafterDescription:
    """The checked `drafter.json` of a folder. Raises UserError naming the key that is wrong."""
    path = folder / "drafter.json"
    try:
        return DrafterDescription.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise error_in(path, error) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def load_packed_drafter(spec: str, folder: Path, target: TargetModel) -> DrafterModel:
    """The drafter in `folder` joined to the target's embedding. Raises UserError when files or target do not fit."""
    description = read_description(folder)
    embedding = input_embedding(target.model)
    if description.config.vocab_size != embedding.shape[0]:
        raise UserError(
            f"drafter {spec!r}: it was made for {description.target!r} with {description.config.vocab_size} tokens, "
            f"target {target.name!r} has {embedding.shape[0]}; choose a drafter made for this target"
        )
    path = folder / "weights.safetensors"
    weights = PackedWeights(path, _read_tensors(path))
    model = _build(description, weights, embedding, spec, target.name)
    target_ids = weights.plain("target_ids", (description.draft_vocab_size,)).to(torch.int64)
    return DrafterModel(
        name=spec,
        model=model,
        target_ids=target_ids.to(embedding.device),
        macs_per_token=macs_per_token(model),
        weights_sha256=file_sha256(path),
    )


class PackedWeights:
    """The tensors of one `weights.safetensors`, each checked for its shape when it is asked for."""

    def __init__(self, path: Path, tensors: dict[str, Tensor]) -> None:
        self._path, self._tensors = path, tensors

    def plain(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor `name` as stored. Raises UserError when it is missing or has another shape."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise UserError(f"{self._path}: tensor {name!r} is missing")
        if tuple(tensor.shape) != shape:
            raise UserError(f"{self._path}: tensor {name!r} is {tuple(tensor.shape)}, drafter.json asks for {shape}")
        return tensor

    def linear(self, name: str, shape: tuple[int, int]) -> Tensor:
        """The float32 weight [out, in] stored as int8 rows and their scales."""
        q, scale = self.plain(f"{name}.q", shape), self.plain(f"{name}.scale", shape[:1])
        return q.float() * scale.float()[:, None]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; the drafter's weights are missing") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: corrupt or cut short ({first_line(error)})") from error


def _build(
    description: DrafterDescription, weights: PackedWeights, embedding: Tensor, spec: str, target_name: str
) -> LlamaForCausalLM:
    shape = description.config
    width, target_width, draft_vocab = shape.hidden_size, embedding.shape[1], description.draft_vocab_size
    if not description.projected and width != target_width:
        raise UserError(
            f"drafter {spec!r}: it shares the {width} wide embedding of {description.target!r}, that of target "
            f"{target_name!r} is {target_width} wide; choose a drafter made for this target"
        )
    dtype, device = embedding.dtype, embedding.device
    config = LlamaConfig(**shape.model_dump(), tie_word_embeddings=False, dtype=dtype)
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        model = LlamaForCausalLM(config)
        model.lm_head = nn.Linear(width, draft_vocab, bias=True)
    with device:
        model.model.rotary_emb = LlamaRotaryEmbedding(config)  # its buffer is computed, not stored

    target_ids = weights.plain("target_ids", (draft_vocab,)).to(device=device, dtype=torch.int64)
    if target_ids.min() < 0 or target_ids.max() >= shape.vocab_size or len(target_ids.unique()) != draft_vocab:
        raise UserError(f"drafter {spec!r}: target_ids must be {draft_vocab} different ids below {shape.vocab_size}")
    exact = embedding.to(torch.promote_types(embedding.dtype, torch.float32))
    state: dict[str, Tensor] = {}
    if description.projected:
        # [vocab, target width] -> [vocab, width], and the same for the rows of the draft vocabulary
        into = weights.linear("embed_projection", (width, target_width)).to(exact)
        out_of = weights.linear("head_projection", (width, target_width)).to(exact)
        state["model.embed_tokens.weight"] = (exact @ into.T).to(dtype)
        state["lm_head.weight"] = (exact[target_ids] @ out_of.T).to(dtype)
    else:
        state["model.embed_tokens.weight"] = embedding
        state["lm_head.weight"] = embedding[target_ids]
    state["lm_head.bias"] = weights.plain("lm_head.bias", (draft_vocab,)).to(device=device, dtype=dtype)
    for name, parameter in model.named_parameters():
        if name in state:
            continue
        if parameter.ndim == 2:
            rows, columns = parameter.shape
            value = weights.linear(name.removesuffix(".weight"), (rows, columns))
        else:
            value = weights.plain(name, tuple(parameter.shape))
        state[name] = value.to(device=device, dtype=dtype)
    model.load_state_dict(state, assign=True, strict=True)  # assigned, so a shared embedding is held once
    return model.requires_grad_(False).eval()
