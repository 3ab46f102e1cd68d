"""A causal LM from a Hugging Face folder or hub id: complete, or refused in one line."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from spinbench.errors import UserError
from spinbench.file_digest import file_sha256

HUB_TIMEOUT_S = 15.0
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True)
class Checkpoint:
    """Where a model is: a folder, or a hub id with what the hub's local cache holds of it."""

    source: str
    """What `from_pretrained` gets."""
    folder: Path | None
    """None for a hub model of which nothing is cached yet."""
    on_hub: bool


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no load reports inside the block; what they say is raised as errors instead."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def looks_like_path(spec: str) -> bool:
    """True for what cannot be a hub id, `name` or `owner/name`."""
    return HUB_ID.fullmatch(spec) is None


def folder_checkpoint(folder: Path, role: str) -> Checkpoint:
    """The checkpoint in `folder`. Raises UserError when it is missing or is no model folder."""
    if not folder.exists():
        raise UserError(f"{role} {str(folder)!r}: no such folder")
    if not folder.is_dir():
        raise UserError(f"{role} {str(folder)!r}: this is a file; give the model's folder, the one with config.json")
    if not (folder / "config.json").is_file():
        raise UserError(f"{role} {str(folder)!r}: no config.json in it; give a Hugging Face model folder")
    return Checkpoint(source=str(folder), folder=folder, on_hub=False)


def hub_checkpoint(hub_id: str, role: str) -> Checkpoint:
    """The checkpoint of a hub id, from the hub's local cache if it is there. Raises UserError when there is none."""
    cached = cached_hub_folder(hub_id)
    if cached is not None:
        return Checkpoint(source=hub_id, folder=cached, on_hub=True)
    try:
        HfApi().model_info(hub_id, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # the client passes on its HTTP library's classes, which differ between its versions
        raise UserError(
            f"{role} {hub_id!r}: no folder of that name here, and the model hub does not give it ({first_line(error)})"
        ) from error
    return Checkpoint(source=hub_id, folder=None, on_hub=True)


def cached_hub_folder(hub_id: str) -> Path | None:
    """The snapshot folder that the hub's local cache holds of `hub_id`, if it holds its config."""
    try:
        config = try_to_load_from_cache(hub_id, "config.json")
    except ValueError:  # not a valid hub id
        return None
    return Path(config).parent if isinstance(config, str) else None


def load_causal_lm(checkpoint: Checkpoint, role: str, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The model with every weight of the checkpoint: eval mode, no gradients. Raises UserError when one is missing."""
    where = f"{role} {checkpoint.source!r}"
    try:
        model, info = _from_pretrained(checkpoint, dtype)
    except SafetensorError as error:
        raise UserError(f"{where}: a safetensors file is corrupt or cut short ({first_line(error)})") from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{where}: cannot be loaded as a causal language model ({first_line(error)})") from error
    for problem, keys in (("lacks", info["missing_keys"]), ("has a wrong shape of", info["mismatched_keys"])):
        if keys:
            names = sorted(key if isinstance(key, str) else key[0] for key in keys)
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{where}: the checkpoint {problem} {names[0]}{more}; the weights do not fit config.json")
    model.requires_grad_(False).eval()
    cast(nn.Module, model).to(device)  # in place; the cast is for the type checker, which misreads the override
    return model


def _from_pretrained(checkpoint: Checkpoint, dtype: torch.dtype) -> tuple[PreTrainedModel, dict[str, set]]:
    def load(local_files_only: bool) -> tuple[PreTrainedModel, dict[str, set]]:
        with quiet_transformers():
            return cast(Any, AutoModelForCausalLM).from_pretrained(
                checkpoint.source,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported by us, with the name of the weight
                local_files_only=local_files_only,
            )

    try:
        return load(local_files_only=checkpoint.folder is not None)
    except OSError:
        if checkpoint.folder is not None and checkpoint.on_hub:
            return load(local_files_only=False)  # a download that was cut off: the hub has the rest
        raise


def weights_sha256(folder: Path | None, model: PreTrainedModel) -> str:
    """Hex digest of the weights: of the one weight file as `sha256sum` prints it, else of the files' names and digests.

    Without weight files beside the config (a hub model converted on the way) the loaded tensors are hashed.
    """
    files = _weight_files(folder) if folder is not None else []
    if len(files) == 1:
        return file_sha256(files[0])
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file_sha256(file)}\n".encode())
    if not files:
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().cpu().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    for single, shards in (
        ("model.safetensors", "model-*-of-*.safetensors"),
        ("pytorch_model.bin", "pytorch_model-*-of-*.bin"),
    ):
        if (folder / single).is_file():
            return [folder / single]
        if files := sorted(folder.glob(shards)):
            return files
    return []


def first_line(error: BaseException) -> str:
    """What an error says, cut to its first line and sentence end; its class name when it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".:") if lines else type(error).__name__
