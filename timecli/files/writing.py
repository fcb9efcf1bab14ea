"""Files are written whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

from timecli.files.outfile import BLOCK, OutFile
from timecli.files.staging import staged


def write_bytes(target: Path, content: bytes, replace: bool = True) -> None:
    """Write a small file, complete or not at all."""
    with staged(target, replace) as part, OutFile(part) as file:
        file.put(content)


def sha256(path: Path, start: int = 0) -> str:
    """SHA-256 of a file's bytes from `start` on."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def copy_file(source: Path, target: Path) -> None:
    """Copy a whole file, flushed to the disk."""
    with source.open("rb") as original, OutFile(target) as file:
        file.take(original, 0, source.stat().st_size)
