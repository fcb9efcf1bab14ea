"""A model written in the form in which it came: one file or one folder, complete or not there at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from timecli.errors import CheckpointError
from timecli.files.rewriting import DATA_HASH, rewrite
from timecli.files.safefile import open_file
from timecli.files.staging import staged, staged_in
from timecli.files.targets import require_model_only
from timecli.files.writing import copy_file, sha256
from timecli.models import contents
from timecli.models.checkpoint import Checkpoint
from timecli.shipping.provenance import metadata, restored

Tensors = Mapping[tuple[Path, str], torch.Tensor]
"""Tensors by file and name."""
STALE = (DATA_HASH, "sshs_model_hash", "sshs_legacy_hash")
"""Metadata that is not true of an edited copy."""


def write_checkpoint(
    checkpoint: Checkpoint,
    target: Path,
    tensors: Tensors,
    metadata: Mapping[str, str | None],
    dtype: torch.dtype | None,
    replace: bool = True,
) -> None:
    """Write `checkpoint` with `tensors` in place of its own, in the same form.

    Args:
        checkpoint: the model that was read.
        target: where to. The model itself is written in place: of a folder, the edited files alone are replaced.
        tensors: replacements, of the original shapes.
        metadata: entries for the files with replacements, over their own; None takes one away.
        dtype: convert every float tensor; None keeps each tensor's own and every other byte.
        replace: whether another file or model folder at `target` may be replaced.

    Raises:
        OutputError: it cannot be written, or a folder at `target` holds more than a model.
        CheckpointError: the model changed while it was read.
    """
    edited = {place.file.path: place.file for place in checkpoint.places}

    def write(file: Path, copy: Path) -> None:
        if file in edited:
            own = {name: tensor for (path, name), tensor in tensors.items() if path == file}
            kept = {key: value for key, value in edited[file].metadata.items() if key not in STALE}
            about = {key: value for key, value in {**kept, **metadata}.items() if value is not None}
            rewrite(edited[file], copy, own, about, dtype)
        elif dtype is not None and file.suffix == contents.WEIGHTS:
            other = open_file(file)
            rewrite(other, copy, {}, other.metadata, dtype)
        else:
            copy_file(file, copy)

    if not checkpoint.is_folder:
        with staged(target, replace, follow=True) as part:
            write(checkpoint.path, part)
    elif target.exists() and target.samefile(checkpoint.path):
        files = contents.rewritten(checkpoint, dtype is not None)
        with staged_in(checkpoint.path, files) as parts:
            for file, part in zip(files, parts, strict=True):
                write(file, part)
            for source in edited.values():
                source.require_unchanged()
    else:
        with staged(target, replace, folder=True, follow=True) as part:
            for file in contents.files(checkpoint):
                copy = part / file.relative_to(checkpoint.path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                write(file, copy)
            for source in edited.values():
                source.require_unchanged()
            if target.is_dir():
                require_model_only(target, contents.names(checkpoint))


def publish(
    checkpoint: Checkpoint,
    output: Path,
    tensors: Tensors,
    records: Sequence[Mapping[str, Any]],
    dtype: torch.dtype | None,
    with_hash: bool,
    replace: bool = True,
    taken_back: int = 0,
    made: str = "",
) -> dict[str, str]:
    """Write an edited copy of `checkpoint` that says what it is.

    Args:
        checkpoint: the model that was read.
        output: where to.
        tensors: the edited matrices.
        records: the edits, in the order in which they were made.
        dtype: as for `write_checkpoint`.
        with_hash: take the SHA-256 of the files before and after (seconds per gigabyte).
        replace: as for `write_checkpoint`.
        taken_back: how many of its last edits the copy goes without; it has no new ones then.
        made: the hash of the maps that are written then.

    Returns:
        With `with_hash`, `sha256` of the file that was written; its first ten digits are A1111's and Civitai's AutoV2.
    """
    if with_hash and checkpoint.is_folder:
        raise CheckpointError(f"{checkpoint.path} is a folder; --hash is for a single file.")
    about: dict[str, str | None] = {}
    if taken_back:
        about |= restored(checkpoint, taken_back, made)
    else:
        about |= metadata(checkpoint, records, sha256(checkpoint.path) if with_hash else None)
    if with_hash:
        about[DATA_HASH] = "0x"
    write_checkpoint(checkpoint, output, tensors, about, dtype, replace)
    return {"sha256": sha256(output)} if with_hash else {}
