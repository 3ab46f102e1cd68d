"""Loads targets and drafters by name: the embedded default, packaged drafters, folders, hub ids."""

from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from spinbench.dotted_name import is_dotted_name
from spinbench.errors import UserError
from spinbench.models.checkpoint import (
    Checkpoint,
    cached_hub_folder,
    first_line,
    folder_checkpoint,
    hub_checkpoint,
    load_causal_lm,
    looks_like_path,
    quiet_transformers,
    weights_sha256,
)
from spinbench.models.fetch import DEFAULT_MODEL, fetch_default_model
from spinbench.models.inflate import inflate
from spinbench.models.loaded_model import DrafterModel, TargetModel, input_embedding, macs_per_token
from spinbench.models.made_drafter import make_drafter
from spinbench.models.model_shape import ModelShape, find_shape, inflated_parts
from spinbench.models.packed_drafter import find_packed_drafter, load_packed_drafter, packaged_drafters
from spinbench.models.shape_model import MAX_MODEL_LEN_TOKENS, made_sha256, shape_model

__all__ = ["DrafterModel", "TargetModel", "load_drafter", "load_target", "macs_per_token"]

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)


def load_target(spec: str, dtype: torch.dtype, device: torch.device) -> TargetModel:
    """The target named by `spec`: the embedded default (fetched when it is not cached), a model folder or a hub id.

    Also a shape, with random weights, and MODEL@SHAPE: a model inside a larger one that says the same (`inflate`).
    Raises UserError when there is no such model, or its files are incomplete or corrupt.
    """
    parts, shape = inflated_parts(spec), find_shape(spec)
    if parts is not None:
        return _inflated_target(spec, load_target(parts[0], dtype, device), parts[1])
    if shape is not None:
        return _shape_target(shape, dtype, device)
    if spec == DEFAULT_MODEL:
        kind, checkpoint = "embedded", folder_checkpoint(fetch_default_model(), "target")
    elif Path(spec).expanduser().exists() or looks_like_path(spec):
        kind, checkpoint = "path", folder_checkpoint(Path(spec).expanduser(), "target")
    else:
        kind, checkpoint = "hub", hub_checkpoint(spec, "target")
    model = load_causal_lm(checkpoint, "target", dtype, device)
    folder = checkpoint.folder or cached_hub_folder(checkpoint.source)
    return TargetModel(
        name=spec,
        kind=kind,
        model=model,
        tokenizer=_load_tokenizer(checkpoint, folder),
        eos_token_ids=_eos_token_ids(model),
        max_model_len_tokens=_max_model_len_tokens(spec, model),
        weights_sha256=weights_sha256(folder, model),
    )


def load_drafter(spec: str, target: TargetModel) -> DrafterModel:
    """The drafter named by `spec`, in the target's dtype and on its device.

    `spec` is a packaged drafter, a folder with `drafter.json`, a model folder, a hub id, the dotted name of a function
    that makes one (`make_drafter`), a shape, or DRAFTER@SHAPE as targets are. Raises UserError when there is no such
    drafter, its files are corrupt, or its vocabulary is not the target's.
    """
    parts, shape = inflated_parts(spec), find_shape(spec)
    if parts is not None:
        drafter = load_drafter(parts[0], target)
        model = inflate(drafter.model, parts[1])
        digest = made_sha256(drafter.weights_sha256, parts[1].name)
        return replace(drafter, name=spec, model=model, macs_per_token=macs_per_token(model), weights_sha256=digest)
    if shape is not None:
        model = shape_model(shape, target.model.dtype, target.model.device)
        _check_vocabulary(spec, model, target)
        return DrafterModel(spec, model, None, macs_per_token(model), made_sha256(shape.name))
    packed = find_packed_drafter(spec)
    if packed is not None:
        return load_packed_drafter(spec, packed, target.trained)
    path = Path(spec).expanduser()
    if is_dotted_name(spec) and not path.exists():
        made = make_drafter(spec, target)
        _check_vocabulary(spec, made.model, target)
        return made
    if path.exists() or looks_like_path(spec):
        checkpoint = folder_checkpoint(path, "drafter")
    else:
        role = f"drafter (packaged: {', '.join(packaged_drafters()) or 'none'})"
        checkpoint = hub_checkpoint(spec, role)
    model = load_causal_lm(checkpoint, "drafter", target.model.dtype, target.model.device)
    _check_vocabulary(spec, model, target)
    folder = checkpoint.folder or cached_hub_folder(checkpoint.source)
    return DrafterModel(
        name=spec,
        model=model,
        target_ids=None,
        macs_per_token=macs_per_token(model),
        weights_sha256=weights_sha256(folder, model),
    )


def _shape_target(shape: ModelShape, dtype: torch.dtype, device: torch.device) -> TargetModel:
    model = shape_model(shape, dtype, device)
    return TargetModel(
        name=shape.name,
        kind="shape",
        model=model,
        tokenizer=None,
        eos_token_ids=frozenset(),
        max_model_len_tokens=MAX_MODEL_LEN_TOKENS,
        weights_sha256=made_sha256(shape.name),
    )


def _inflated_target(spec: str, base: TargetModel, shape: ModelShape) -> TargetModel:
    model = inflate(base.model, shape)
    digest = made_sha256(base.weights_sha256, shape.name)
    return replace(base, name=spec, kind="inflated", model=model, weights_sha256=digest, base=base)


def _check_vocabulary(spec: str, model: PreTrainedModel, target: TargetModel) -> None:
    vocab_size = input_embedding(model).shape[0]
    if vocab_size != target.vocab_size:
        raise UserError(
            f"drafter {spec!r}: vocabulary of {vocab_size} tokens, target {target.name!r} has {target.vocab_size}: "
            "choose a drafter that shares the target's tokenizer"
        )


def _load_tokenizer(checkpoint: Checkpoint, folder: Path | None) -> PreTrainedTokenizerBase | None:
    has_files = folder is not None and any((folder / name).is_file() for name in TOKENIZER_FILES)
    if not has_files and not checkpoint.on_hub:
        return None
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(checkpoint.source, local_files_only=has_files)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = first_line(error)
        raise UserError(f"target {checkpoint.source!r}: its tokenizer cannot be loaded ({reason})") from error


def _eos_token_ids(model: PreTrainedModel) -> frozenset[int]:
    generation = model.generation_config
    eos = generation.eos_token_id if generation is not None and generation.eos_token_id is not None else None
    if eos is None:
        eos = getattr(model.config, "eos_token_id", None)
    if eos is None:
        return frozenset()
    return frozenset([eos] if isinstance(eos, int) else eos)


def _max_model_len_tokens(spec: str, model: PreTrainedModel) -> int:
    length = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(length, int):
        raise UserError(f"target {spec!r}: config.json names no max_position_embeddings: its context length is unknown")
    return length
