"""The bytes of a trace file, read once: hashed, decoded, numbered by line."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from spinbench.errors import UserError

TRACE_SUFFIXES = (".jsonl", ".json", ".csv", ".yaml")
"""Endings of the files that are suggested when the one asked for is missing."""

MAX_SUGGESTIONS = 8
"""Files suggested at most."""


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A trace file's text, and the place that its errors name."""

    path: Path
    text: str
    sha256: str
    """Of the file's bytes."""

    def lines(self) -> Iterator[tuple[int, str]]:
        """Numbered lines from 1, blank ones left out.

        Lines end at a line feed only: JSON text may hold the other characters that `str.splitlines` cuts at.
        """
        for number, line in enumerate(self.text.split("\n"), start=1):
            if line and not line.isspace():
                yield number, line

    def error(self, line_number: int, message: str) -> UserError:
        """The error to raise for what is wrong on one line."""
        return UserError(f"{self.path}:{line_number}: {message}")


def read_trace_file(path: Path) -> TraceFile:
    """The file's content. Raises UserError when it is missing, a folder, unreadable, empty or not UTF-8."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {_alternatives(path)}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, not a trace file; {_listing(path)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        # A byte order mark at the start, as some editors write it, is no part of the text.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line_number = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise UserError(f"{path}:{line_number}: not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8") from None
    if not text.strip():
        raise UserError(f"{path}: is empty; a trace needs at least one request")
    return TraceFile(path=path, text=text, sha256=hashlib.sha256(data).hexdigest())


def _alternatives(path: Path) -> str:
    if not path.parent.is_dir():
        return f"its folder {path.parent} does not exist either"
    return _listing(path.parent, like=path.stem)


def _listing(folder: Path, like: str = "") -> str:
    """The traces in a folder, those with a similar name first."""
    try:
        files = sorted(entry for entry in folder.iterdir() if entry.suffix in TRACE_SUFFIXES and entry.is_file())
    except OSError:
        files = []
    if not files:
        return f"{folder} holds no file that ends in {', '.join(TRACE_SUFFIXES[:-1])} or {TRACE_SUFFIXES[-1]}"
    similar = get_close_matches(like, [file.stem for file in files])
    names = [file.name for file in sorted(files, key=lambda file: file.stem not in similar)]
    more = f" and {len(names) - MAX_SUGGESTIONS} more" if len(names) > MAX_SUGGESTIONS else ""
    return f"traces in {folder}: {', '.join(names[:MAX_SUGGESTIONS])}{more}"
