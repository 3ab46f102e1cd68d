"""Finished stages of a recording that is not done yet, each in a file named by what it was made from."""

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spinbench.errors import UserError
from spinbench.whole_file import whole_file

WORK_FOLDER = "work"


def digest(*parts: object) -> str:
    """A name for what depends on `parts`: arrays, and what JSON can hold."""
    sha256 = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha256.update(f"{part.dtype} {part.shape}".encode())
            sha256.update(np.ascontiguousarray(part).tobytes())
        else:
            sha256.update(json.dumps(part, sort_keys=True).encode())
    return sha256.hexdigest()[:24]


class RecordWork:
    """The folder `work` inside a table's folder. Stages made from other inputs have other names: they are not found."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / WORK_FOLDER

    @property
    def has_stages(self) -> bool:
        """Whether anything would be gone on with."""
        return self._folder.is_dir() and any(self._folder.glob("*.npz"))

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of a finished stage; None if there is none that can be read."""
        try:
            with np.load(self._folder / f"{name}.npz", allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a finished stage. Raises UserError when it cannot be written."""
        path = self._folder / f"{name}.npz"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error

    def remove(self) -> None:
        """The table is written: nothing of this is needed any more."""
        shutil.rmtree(self._folder, ignore_errors=True)
