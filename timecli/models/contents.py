"""What a model's files are when it is written: all of them, those that change, and how much room they take."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from timecli.errors import CheckpointError
from timecli.files.parts import real
from timecli.files.quantised import convertible, require_floats
from timecli.files.safefile import ITEMSIZES, open_file
from timecli.files.targets import entries
from timecli.models import layouts, streams
from timecli.models.checkpoint import Checkpoint, Place

WEIGHTS = ".safetensors"


def files(checkpoint: Checkpoint) -> list[Path]:
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
    return [file.relative_to(checkpoint.path).as_posix() for file in files(checkpoint)]


def rewritten(checkpoint: Checkpoint, converted: bool) -> list[Path]:
    """The files that writing a model in place replaces: those with edited matrices, and the weights to convert.

    Weights are what lies beside a config; whatever else a user keeps in the same folder stays as it is.
    """
    wanted = [place.file.path for place in checkpoint.places]
    if checkpoint.is_folder and converted:
        wanted += [f for f in files(checkpoint) if f.suffix == WEIGHTS and (f.parent / "config.json").exists()]
    found: dict[Path, Path] = {}
    for file in wanted:
        found.setdefault(real(file), file)  # two names of one file are one file
    return list(found.values())


def size_on_disk(checkpoint: Checkpoint, itemsize: int | None, in_place: bool = False) -> int:
    """Bytes that writing the model takes; `itemsize` is that of a number where all are converted."""
    if in_place:
        written = rewritten(checkpoint, itemsize is not None)
    else:
        written = files(checkpoint) if checkpoint.is_folder else [checkpoint.path]
    edited = {place.file.path for place in checkpoint.places}  # weights, whatever they are called
    return sum(_size(file, itemsize if file in edited or file.suffix == WEIGHTS else None) for file in written)


def _size(file: Path, itemsize: int | None) -> int:
    """Bytes of a file, or of what converting its tensors makes of it, but for the header."""
    if itemsize is None:
        return file.stat().st_size
    source = open_file(file)
    converted = convertible(source)
    spans = [(name, entry["dtype"], entry["data_offsets"]) for name, entry in source.entries.items()]
    return sum(
        (stop - start) // ITEMSIZES[kind] * itemsize if name in converted else stop - start
        for name, kind, (start, stop) in spans
    )


def over(path: Path, base: Checkpoint) -> Checkpoint | None:
    """A file of edited maps alone, as UCE saves them, over the model that they are of; None for any other file."""
    if path.is_dir():
        return None
    file = open_file(path)
    for prefix, spelling in layouts.UNET_PREFIXES:
        names = {prefix + matrix.names[spelling]: matrix for matrix in base.family.matrices}
        biases = {name.removesuffix("weight") + "bias" for name in names}  # which no edit of text changes
        own = {matrix: Place(matrix, file, name, False) for name, matrix in names.items() if name in file.entries}
        if own and file.entries.keys() <= names.keys() | biases:
            require_floats(file, file.entries)
            places = tuple(own.get(place.matrix, place) for place in base.places if not place.twin)
            return replace(base, path=path, places=places)
    return None


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `timecli inspect` says of a model. Parameters are counted in the UNet's and the text encoders' files."""
    files = {place.file.path: place.file for place in checkpoint.places}
    files |= {file.path: file for text in checkpoint.texts for file in text.files}
    entries = [entry for file in files.values() for entry in file.entries.values()]
    edited = [place for place in checkpoint.places if not place.twin]
    cross = [place.file.entries[place.name]["shape"] for place in edited if place.matrix.kind != streams.ENTRY]
    return {
        "form": "diffusers folder" if checkpoint.is_folder else "single file",
        "architecture": checkpoint.family.name,
        "text_width": checkpoint.width,
        "dtypes": dict(Counter(entry["dtype"] for entry in entries)),
        "parameters": sum(math.prod(entry["shape"]) for entry in entries),
        "maps": len(edited),
        "cross_attention_matrices": len(cross),
        "cross_attention_parameters": sum(map(math.prod, cross)),
        "streams": list(checkpoint.family.streams),
        "twins": len(checkpoint.places) - len(edited),
        "copies": [copy.describe() for copy in checkpoint.copies],
        "edits": checkpoint.edits,
    }
