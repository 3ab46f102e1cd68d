"""N-gram tables as files: `ngram.json`, `contexts.safetensors` and `card.md` in a folder."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from spinbench.errors import UserError
from spinbench.file_digest import file_sha256
from spinbench.models.checkpoint import first_line
from spinbench.models.loaded_model import TargetModel
from spinbench.models.packed_drafter import PACKAGED_FOLDER
from spinbench.workload.acceptance.drafter_name import NGRAM_SUFFIX
from spinbench.workload.acceptance.ngram_model import MAX_CONTEXT_TOKENS, NgramGroup, NgramModel

DESCRIPTION_FILE = "ngram.json"
CONTEXTS_FILE = "contexts.safetensors"


class NgramDescription(BaseModel):
    """What `ngram.json` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    name: str = Field(pattern=f"{NGRAM_SUFFIX}$")
    target: str
    target_weights_sha256: str | None
    vocab_size: int = Field(ge=1)
    context_tokens: int = Field(ge=1, le=MAX_CONTEXT_TOKENS)


def packaged_ngrams() -> tuple[str, ...]:
    """Names of the n-gram tables that come with the package, sorted."""
    return tuple(sorted(path.parent.name for path in PACKAGED_FOLDER.glob(f"*/{DESCRIPTION_FILE}")))


def write_ngrams(folder: Path, description: NgramDescription, groups: tuple[NgramGroup, ...], card: str) -> None:
    """Leave a table in `folder`, the description last: a folder without it holds none."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for length, group in enumerate(groups, start=1):
        for name in ("key", "token_id", "confidence"):
            tensors[f"{name}.{length}"] = getattr(group, name)
    save_file(tensors, folder / CONTEXTS_FILE)
    (folder / "card.md").write_text(card, encoding="utf-8")
    (folder / DESCRIPTION_FILE).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_ngrams(spec: str, target: TargetModel) -> NgramModel:
    """The n-gram table named by `spec`, a packaged one or a folder.

    Raises UserError when there is none, its files are corrupt, or it is of another target.
    """
    folder = PACKAGED_FOLDER / spec if spec in packaged_ngrams() else Path(spec).expanduser()
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise UserError(
            f"drafter {spec!r}: a name that ends in {NGRAM_SUFFIX} is an n-gram table, and there is none (packaged: "
            f"{', '.join(packaged_ngrams()) or 'none'}; a folder needs {DESCRIPTION_FILE})"
        )
    try:
        description = NgramDescription.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no description of an n-gram table ({first_line(error)})") from error
    # an inflated target says what the trained one says
    trained = target.trained
    known = description.target_weights_sha256
    same = known == trained.weights_sha256 if known is not None else description.target == trained.name
    if not same or description.vocab_size != target.vocab_size:
        raise UserError(
            f"drafter {spec!r}: was counted from texts of target {description.target!r}, not {target.name!r}"
        )
    contexts = folder / CONTEXTS_FILE
    try:
        tensors = load_file(contexts)
        groups = tuple(
            NgramGroup(*(tensors[f"{name}.{length}"] for name in ("key", "token_id", "confidence")))
            for length in range(1, description.context_tokens + 1)
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{contexts}: no contexts of an n-gram table ({first_line(error)})") from error
    for length, group in enumerate(groups, start=1):
        _check(group, description.vocab_size, f"{contexts}: contexts of {length} tokens")
    return NgramModel(spec, groups, file_sha256(contexts))


def _check(group: NgramGroup, vocab_size: int, where: str) -> None:
    columns = (group.key, group.token_id, group.confidence)
    if [column.dtype for column in columns] != [np.uint32, np.int32, np.uint8]:
        raise UserError(f"{where}: are not of types uint32, int32, uint8")
    if len({column.shape for column in columns}) > 1 or group.key.ndim != 1:
        raise UserError(f"{where}: columns are not equally long")
    if (np.diff(group.key.astype(np.int64)) <= 0).any():
        raise UserError(f"{where}: keys do not rise")
    if len(group.token_id) and not 0 <= group.token_id.min() <= group.token_id.max() < vocab_size:
        raise UserError(f"{where}: hold a token outside the vocabulary of {vocab_size}")
