"""Models on disk: what they are, and where in their files the tensors are that an edit needs.

A single file holds everything; a diffusers folder holds files per component, perhaps in several variants or shards.
Either way a `Checkpoint` says where the cross-attention matrices and the text encoders are, and reads nothing else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from timecli import layouts, openclip, records
from timecli.errors import CheckpointError, ManifestError
from timecli.safefile import SafeFile, open_file, require_finite

EDITS = "timecli.edits"
"""Metadata key: JSON list of the edits that a checkpoint carries, the first made first."""

CONV_IN = ("input_blocks.0.0.weight", "conv_in.weight")
"""How the name of a UNet's first convolution ends, in a single file and in a folder."""
PARTS = ("embeddings.", "encoder.", "final_layer_norm.")
"""What a text encoder's states need of transformers' CLIP."""


@dataclass(frozen=True)
class Place:
    """Where a cross-attention matrix is: a tensor of a file.

    A `twin` is another copy of the same matrix, edited from its own weights: a moving average (EMA) in a single file,
    or a variant of the UNet in a folder.
    """

    matrix: layouts.Matrix
    file: SafeFile
    name: str
    twin: bool

    @property
    def key(self) -> tuple[Path, str]:
        """File and tensor name."""
        return self.file.path, self.name


@dataclass(frozen=True)
class TextWeights:
    """Where a text encoder is: the tensors of some files whose names begin with a prefix."""

    tower: layouts.Tower
    files: tuple[SafeFile, ...]
    prefix: str
    openclip: bool

    def read(self) -> dict[str, torch.Tensor]:
        """Its tensors, by transformers' names below `text_model.`.

        Raises:
            CheckpointError: a weight is NaN or infinite.
        """
        weights: dict[str, torch.Tensor] = {}
        for file in self.files:
            names = [name for name in file.entries if name.startswith(self.prefix)]
            for name, tensor in zip(names, file.read(names), strict=True):
                require_finite(tensor, f"{file.path}: {name}")
                weights[name.removeprefix(self.prefix)] = tensor
        if self.openclip:
            return openclip.to_transformers(weights, not self.tower.penultimate)
        return {name: tensor for name, tensor in weights.items() if name.startswith(PARTS)}


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk.

    Attributes:
        path: the file or the folder.
        family: what kind of model it is.
        places: the cross-attention matrices from the input to the output, twins behind them.
        texts: the text encoders, in the order in which their states stand side by side.
        config: a diffusers folder with configs and tokenizers, or None.
        channels: how many the UNet takes: 4, with an image to fill in 9, with one to follow 8.
    """

    path: Path
    family: layouts.Family
    places: tuple[Place, ...]
    texts: tuple[TextWeights, ...]
    config: Path | None
    channels: int

    @property
    def is_folder(self) -> bool:
        """Whether this is a diffusers folder."""
        return self.path.is_dir()

    @property
    def width(self) -> int:
        """The d of the text that the matrices take."""
        first = self.places[0]
        return int(first.file.entries[first.name]["shape"][-1])

    @property
    def edits(self) -> list[dict[str, Any]]:
        """Records of the timecli edits that the model carries."""
        return edits(self.places[0].file)

    def text_encoders(self) -> list[dict[str, torch.Tensor]]:
        """The tensors of each text encoder."""
        return [text.read() for text in self.texts]

    def projections(self, twins: bool = True) -> Iterator[tuple[Place, torch.Tensor]]:
        """Every cross-attention matrix `[out, d]` in its stored dtype."""
        wanted = [place for place in self.places if twins or not place.twin]
        for _, group in groupby(wanted, key=lambda place: place.file.path):
            places = list(group)
            for place, tensor in zip(places, places[0].file.read(place.name for place in places), strict=True):
                require_finite(tensor, f"{place.file.path}: {place.name}")
                yield place, tensor


def edits(file: SafeFile) -> list[dict[str, Any]]:
    """Records of the timecli edits that a file carries."""
    try:
        return records.edits(file.metadata.get(EDITS, "[]"))
    except (ValueError, ManifestError) as error:
        detail = str(error).rstrip(".")
        raise CheckpointError(
            f"{file.path} has a damaged record of its edits ({EDITS} in its metadata: {detail}); use another copy."
        ) from error


def open_checkpoint(
    path: Path,
    config: Path | None = None,
    text_encoder: Path | None = None,
    ema: bool = True,
    needs_text: bool = True,
) -> Checkpoint:
    """Find out what a model is.

    Args:
        path: a single file or a diffusers folder.
        config: a diffusers folder for tokenizers and configs; by default the folder itself, or one named `config`
            beside a single file.
        text_encoder: another model, or a text encoder, for a file that has none.
        ema: whether moving averages are edited too.
        needs_text: whether a model without a text encoder is refused.

    Raises:
        CheckpointError: it is not a model of a known family in safetensors form.
    """
    if config is None:
        nearby = [path, path.parent / "config", *([text_encoder] if text_encoder else [])]
        config = next((folder for folder in nearby if (folder / "model_index.json").exists()), None)
    elif not (config / "model_index.json").exists():
        raise CheckpointError(f"{config} has no model_index.json; --config takes a diffusers folder.")
    variants = _variants(path / "unet") if path.is_dir() else [(open_file(path),)]
    found = [_places(files, str(path)) for files in variants]
    family, places = found[0]
    copies = [Place(place.matrix, place.file, place.name, True) for _, other in found[1:] for place in other]
    if not path.is_dir() and ema:
        copies += _averages(places)
    source, whole = text_encoder or path, not path.is_dir() and text_encoder is None
    texts = tuple(
        _text(tower, source, variants[0] if whole else _text_files(tower, source))
        for tower in (family.towers if needs_text else ())
    )
    return Checkpoint(path, family, (*places, *copies), texts, config, _channels(variants[0]))


def _channels(files: tuple[SafeFile, ...]) -> int:
    entries = {name: entry for file in files for name, entry in file.entries.items()}
    name = next((name for end in CONV_IN for name in entries if name.endswith(end)), None)
    return int(entries[name]["shape"][1]) if name else 4


def _variants(folder: Path) -> list[tuple[SafeFile, ...]]:
    """A component's weights: each variant's files (several where it is in shards), the plain variant first."""
    groups: dict[str, list[SafeFile]] = {}
    files = sorted(folder.glob("*.safetensors"), key=lambda file: (file.stem.count("."), file.name))
    for file in files:
        groups.setdefault(file.stem.split("-0")[0], []).append(open_file(file))
    if not groups:
        for pickle in sorted(folder.glob("*.bin")):
            open_file(pickle)  # refuses it, with the way out
        raise CheckpointError(f"{folder} holds no .safetensors file; use a complete model.")
    return [tuple(group) for group in groups.values()]


def _places(files: tuple[SafeFile, ...], where: str) -> tuple[layouts.Family, list[Place]]:
    home = {name: file for file in files for name in file.entries}
    shapes = {name: tuple(file.entries[name]["shape"]) for name, file in home.items()}
    if shapes.keys() == {"left", "right"}:
        raise CheckpointError(f"{where} is a delta, not a model; give the model that it is for.")
    family, prefix, spelling = layouts.find(shapes, where)
    names = [(matrix, prefix + matrix.names[spelling]) for matrix in family.matrices]
    return family, [Place(matrix, home[name], name, False) for matrix, name in names]


def _averages(places: list[Place]) -> list[Place]:
    return [
        Place(place.matrix, place.file, name, True)
        for place in places
        for name in layouts.twins(place.matrix)
        if name in place.file.entries
    ]


def _text_files(tower: layouts.Tower, path: Path) -> tuple[SafeFile, ...]:
    """A text encoder's files in a diffusers folder, in a folder of its own, or the one file that it is in."""
    if not path.is_dir():
        return (open_file(path),)
    return _variants(path / tower.folder if (path / tower.folder).is_dir() else path)[0]


def _text(tower: layouts.Tower, path: Path, files: tuple[SafeFile, ...]) -> TextWeights:
    """Find a text encoder in `files`, which are those of `path`, under transformers' names or a whole model's."""
    names = {name for file in files for name in file.entries}
    own = next((prefix for prefix in ("text_model.", "") if prefix + layouts.HF_MARK in names), None)
    if own is not None:
        return TextWeights(tower, files, own, False)
    if path.is_dir():
        raise CheckpointError(f"{path} has no text encoder ({layouts.HF_MARK} is missing); use a complete model.")
    return TextWeights(tower, files, layouts.tower_prefix(names, tower, str(path)), tower.openclip)


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `timecli inspect` says of a model. Parameters are counted in the UNet's and the text encoders' files."""
    files = {place.file.path: place.file for place in checkpoint.places}
    files |= {file.path: file for text in checkpoint.texts for file in text.files}
    entries = [entry for file in files.values() for entry in file.entries.values()]
    edited = [place.file.entries[place.name]["shape"] for place in checkpoint.places if not place.twin]
    return {
        "form": "diffusers folder" if checkpoint.is_folder else "single file",
        "architecture": checkpoint.family.name,
        "text_width": checkpoint.width,
        "dtypes": dict(Counter(entry["dtype"] for entry in entries)),
        "parameters": sum(math.prod(entry["shape"]) for entry in entries),
        "cross_attention_matrices": len(edited),
        "cross_attention_parameters": sum(map(math.prod, edited)),
        "twins": len(checkpoint.places) - len(edited),
        "edits": checkpoint.edits,
    }
