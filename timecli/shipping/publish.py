"""A model written in the form in which it came: one file or one folder, complete or not there at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from timecli.errors import CheckpointError
from timecli.files.parts import real
from timecli.files.safefile import ITEMSIZES, open_file
from timecli.files.staging import staged, staged_in
from timecli.files.targets import entries, require_model_only
from timecli.files.writing import DATA_HASH, copy_file, rewrite, sha256
from timecli.models.checkpoint import Checkpoint
from timecli.shipping.provenance import metadata, restored

Tensors = Mapping[tuple[Path, str], torch.Tensor]
"""Tensors by file and name."""
STALE = (DATA_HASH, "sshs_model_hash", "sshs_legacy_hash")
"""Metadata that is not true of an edited copy."""
WEIGHTS = ".safetensors"


def _files(checkpoint: Checkpoint) -> list[Path]:
    """Everything in a model folder, links followed, without hidden files and what is left out.

    Raises:
        CheckpointError: a link leads to nothing, or something is no file.
    """
    found = []
    for entry in entries(checkpoint.path):
        hidden = any(part.startswith(".") for part in entry.relative_to(checkpoint.path).parts)
        if hidden or entry in checkpoint.left_out or entry.is_dir():
            continue
        if not entry.is_file():
            raise CheckpointError(f"{entry} is not a file, or a link to nothing; remove it or use a complete model.")
        found.append(entry)
    return sorted(found)


def names(checkpoint: Checkpoint) -> list[str]:
    """The files that a written folder has, relative to it."""
    return [file.relative_to(checkpoint.path).as_posix() for file in _files(checkpoint)]


def rewritten(checkpoint: Checkpoint, dtype: torch.dtype | None) -> list[Path]:
    """The files that writing a model in place replaces: those with edited matrices, and the weights to convert.

    Weights are what lies beside a config; whatever else a user keeps in the same folder stays as it is.
    """
    files = [place.file.path for place in checkpoint.places]
    if checkpoint.is_folder and dtype is not None:
        files += [f for f in _files(checkpoint) if f.suffix == WEIGHTS and (f.parent / "config.json").exists()]
    found: dict[Path, Path] = {}
    for file in files:
        found.setdefault(real(file), file)  # two names of one file are one file
    return list(found.values())


def size_on_disk(checkpoint: Checkpoint, dtype: torch.dtype | None, in_place: bool = False) -> int:
    """Bytes that writing the model takes."""
    if in_place:
        files = rewritten(checkpoint, dtype)
    else:
        files = _files(checkpoint) if checkpoint.is_folder else [checkpoint.path]
    edited = {place.file.path for place in checkpoint.places}  # weights, whatever they are called
    return sum(_size(file, dtype if file in edited or file.suffix == WEIGHTS else None) for file in files)


def _size(file: Path, dtype: torch.dtype | None) -> int:
    """Bytes of a file, or of what converting its tensors makes of it, but for the header."""
    if dtype is None:
        return file.stat().st_size
    kinds = [(entry["dtype"], entry["data_offsets"]) for entry in open_file(file).entries.values()]
    return sum(
        (stop - start) // ITEMSIZES[kind] * dtype.itemsize if kind in ITEMSIZES else stop - start
        for kind, (start, stop) in kinds
    )


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
        elif dtype is not None and file.suffix == WEIGHTS:
            other = open_file(file)
            rewrite(other, copy, {}, other.metadata, dtype)
        else:
            copy_file(file, copy)

    if not checkpoint.is_folder:
        with staged(target, replace) as part:
            write(checkpoint.path, part)
    elif target.exists() and target.samefile(checkpoint.path):
        files = rewritten(checkpoint, dtype)
        with staged_in(checkpoint.path, files) as parts:
            for file, part in zip(files, parts, strict=True):
                write(file, part)
            for source in edited.values():
                source.require_unchanged()
    else:
        with staged(target, replace, folder=True) as part:
            for file in _files(checkpoint):
                copy = part / file.relative_to(checkpoint.path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                write(file, copy)
            for source in edited.values():
                source.require_unchanged()
            if target.is_dir():
                require_model_only(target, names(checkpoint))


def publish(
    checkpoint: Checkpoint,
    output: Path,
    tensors: Tensors,
    records: Sequence[Mapping[str, Any]],
    dtype: torch.dtype | None,
    with_hash: bool,
    replace: bool = True,
    taken_back: int = 0,
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

    Returns:
        With `with_hash`, `sha256` of the file that was written; its first ten digits are A1111's and Civitai's AutoV2.
    """
    if with_hash and checkpoint.is_folder:
        raise CheckpointError(f"{checkpoint.path} is a folder; --hash is for a single file.")
    about: dict[str, str | None] = {}
    if taken_back:
        about |= restored(checkpoint, taken_back)
    else:
        about |= metadata(checkpoint, records, sha256(checkpoint.path) if with_hash else None)
    if with_hash:
        about[DATA_HASH] = "0x"
    write_checkpoint(checkpoint, output, tensors, about, dtype, replace)
    return {"sha256": sha256(output)} if with_hash else {}
