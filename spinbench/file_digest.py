"""Files by the digest of what is in them."""

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes, as `sha256sum` prints it. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
