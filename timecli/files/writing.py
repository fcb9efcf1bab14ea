"""Files are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from timecli.errors import OutputError
from timecli.files.outfile import BLOCK, OutFile
from timecli.files.staging import staged


def write_bytes(target: Path, content: bytes, replace: bool = True, follow: bool = False) -> None:
    """Write a small file, complete or not at all; `replace` and `follow` are those of `staged`."""
    with staged(target, replace, follow=follow) as part, OutFile(part) as file:
        file.put(content)


def make_folder(folder: Path, own: int) -> None:
    """Make a folder and those around it.

    Args:
        folder: where.
        own: how many of its last names are ours. None of them may be a link, which could lead anywhere.

    Raises:
        OutputError: one is, or the system cannot make it.
    """
    for place in [folder, *folder.parents][:own]:
        if place.is_symlink():
            raise OutputError(f"{place} is a link to {os.readlink(place)}; remove it, so that a folder can be there.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror or error}.") from error


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
