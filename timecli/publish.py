"""A model written in the form in which it came: one file or one folder, complete or not there at all."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from timecli.checkpoint import Checkpoint
from timecli.errors import CheckpointError
from timecli.provenance import metadata
from timecli.safefile import open_file
from timecli.writing import DATA_HASH, copy_file, rewrite, sha256, staged

Tensors = Mapping[tuple[Path, str], torch.Tensor]
"""Tensors by file and name."""
STALE = (DATA_HASH, "sshs_model_hash", "sshs_legacy_hash")
"""Metadata that is not true of an edited copy."""


def _files(folder: Path, left_out: Collection[Path]) -> list[Path]:
    """Everything in a model folder, links followed, without hidden files and what is left out."""
    found = [Path(root) / name for root, _, names in os.walk(folder, followlinks=True) for name in names]
    return sorted(
        file
        for file in found
        if file not in left_out and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def size_on_disk(checkpoint: Checkpoint, dtype: torch.dtype | None) -> int:
    """An upper bound, in bytes, of what writing the model takes."""
    files = _files(checkpoint.path, checkpoint.left_out) if checkpoint.is_folder else [checkpoint.path]
    return sum(file.stat().st_size for file in files) * (2 if dtype == torch.float32 else 1)


def write_checkpoint(
    checkpoint: Checkpoint, target: Path, tensors: Tensors, metadata: Mapping[str, str], dtype: torch.dtype | None
) -> None:
    """Write `checkpoint` with `tensors` in place of its own, in the same form.

    Args:
        checkpoint: the model that was read.
        target: where to; replaced if it exists (see `check_target`).
        tensors: replacements, of the original shapes.
        metadata: entries for the files with replacements, over their own.
        dtype: convert every float tensor; None keeps each tensor's own and every other byte.
    """
    edited = {place.file.path: place.file for place in checkpoint.places}

    def write(file: Path, copy: Path) -> None:
        if file in edited:
            own = {name: tensor for (path, name), tensor in tensors.items() if path == file}
            kept = {key: value for key, value in edited[file].metadata.items() if key not in STALE}
            rewrite(edited[file], copy, own, {**kept, **metadata}, dtype)
        elif dtype is not None and file.suffix == ".safetensors":
            other = open_file(file)
            rewrite(other, copy, {}, other.metadata, dtype)
        else:
            copy_file(file, copy)

    with staged(target) as part:
        if not checkpoint.is_folder:
            return write(checkpoint.path, part)
        index = checkpoint.path / "model_index.json"
        # The index comes last: a folder without it is not a model.
        files = _files(checkpoint.path, checkpoint.left_out)
        for file in sorted(files, key=lambda file: file == index):
            copy = part / file.relative_to(checkpoint.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            write(file, copy)


def publish(
    checkpoint: Checkpoint,
    output: Path,
    tensors: Tensors,
    records: Sequence[Mapping[str, Any]],
    dtype: torch.dtype | None,
    with_hash: bool,
) -> dict[str, str]:
    """Write an edited copy of `checkpoint` that says what it is.

    Args:
        checkpoint: the model that was read.
        output: where to.
        tensors: the edited matrices.
        records: the edits, in the order in which they were made.
        dtype: as for `write_checkpoint`.
        with_hash: take the SHA-256 of the files before and after (seconds per gigabyte).

    Returns:
        With `with_hash`, `sha256` of the file that was written; its first ten digits are A1111's and Civitai's AutoV2.
    """
    if with_hash and checkpoint.is_folder:
        raise CheckpointError(f"{checkpoint.path} is a folder; --hash is for a single file.")
    about = metadata(checkpoint, records, sha256(checkpoint.path) if with_hash else None)
    if with_hash:
        about[DATA_HASH] = "0x"
    write_checkpoint(checkpoint, output, tensors, about, dtype)
    return {"sha256": sha256(output)} if with_hash else {}
