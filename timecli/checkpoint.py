"""Models on disk: read named tensors; write by copying the bytes, replacing the edited ranges, publishing by rename.

A single file holds everything in LDM's spelling; a diffusers folder holds a file per component. Either way a
`Checkpoint` says where the cross-attention matrices and the text encoder are, and reads nothing else.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from timecli import layouts
from timecli.errors import CheckpointError
from timecli.safefile import PICKLES, SafeFile, open_file, require_finite, rewrite, staged

EDITS = "timecli.edits"
"""Metadata key: JSON list of the edits that a checkpoint carries, the first made first."""


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk.

    Attributes:
        path: the file or the folder.
        unet: the file with the cross-attention matrices.
        text: the file with the text encoder; the same in a single file.
        spelling: column of the name table, `layouts.LDM` or `layouts.DIFFUSERS`.
        config: a diffusers folder with configs and tokenizer, or None.
    """

    path: Path
    unet: SafeFile
    text: SafeFile
    spelling: int
    matrices: tuple[layouts.Matrix, ...]
    config: Path | None

    @property
    def is_folder(self) -> bool:
        """Whether this is a diffusers folder."""
        return self.spelling == layouts.DIFFUSERS

    def name(self, matrix: layouts.Matrix) -> str:
        """The matrix's tensor name in this model's spelling."""
        return matrix.names[self.spelling]

    @property
    def edits(self) -> list[dict[str, Any]]:
        """Records of the timecli edits that the model carries."""
        try:
            records = json.loads(self.unet.metadata.get(EDITS, "[]"))
            return [{**entry, "name": str(entry["name"])} for entry in records]
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{self.unet.path} has a damaged record of its edits ({EDITS} in its metadata); use another copy."
            ) from error

    def text_encoder(self) -> dict[str, torch.Tensor]:
        """The text encoder's tensors, by transformers' names below `text_model.`.

        Raises:
            CheckpointError: a weight is NaN or infinite.
        """
        prefix = layouts.text_prefix(self.text.entries, self.spelling, str(self.text.path))
        names = [name for name in self.text.entries if name.startswith(prefix)]
        weights = {name.removeprefix(prefix): tensor for name, tensor in self.text.read(names).items()}
        for name, tensor in weights.items():
            require_finite(tensor, f"{self.text.path}: {prefix}{name}")
        return weights

    def projections(self) -> Iterator[tuple[layouts.Matrix, torch.Tensor]]:
        """Every cross-attention matrix `[out, d]` in its stored dtype."""
        for matrix in self.matrices:
            name = self.name(matrix)
            tensor = self.unet.read([name])[name]
            require_finite(tensor, f"{self.unet.path}: {name}")
            yield matrix, tensor


def open_checkpoint(path: Path, config: Path | None = None) -> Checkpoint:
    """Find out what a model is.

    A single file takes its tokenizer and configs from `config`, or from a folder named `config` beside it.

    Raises:
        CheckpointError: it is not a Stable Diffusion 1.x model in safetensors form.
    """
    if path.is_dir():
        unet = open_file(_weights(path / "unet", "diffusion_pytorch_model"))
        text = open_file(_weights(path / "text_encoder", "model"))
        spelling, config = layouts.DIFFUSERS, config or path
    else:
        unet = text = open_file(path)
        spelling = layouts.LDM
    if config is None and (path.parent / "config" / "model_index.json").exists():
        config = path.parent / "config"
    if config is not None and not (config / "model_index.json").exists():
        raise CheckpointError(f"{config} has no model_index.json; --config takes a diffusers folder.")
    shapes = {name: tuple(entry["shape"]) for name, entry in unet.entries.items()}
    found = layouts.matrices(shapes, spelling, str(path))
    return Checkpoint(path, unet, text, spelling, found, config)


def _weights(folder: Path, stem: str) -> Path:
    """The one weights file of a component."""
    known = (f"{stem}.safetensors", f"{stem}.fp16.safetensors")
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1 and files[0].name in known:
        return files[0]
    pickles = sorted(folder.glob("*.bin"))
    if pickles and not files:
        return pickles[0]  # which `open_file` refuses with the way out
    found = ", ".join(file.name for file in files) or "none"
    raise CheckpointError(
        f"{folder} must hold {known[0]} alone, in one piece (found: {found}); save the model again so."
    )


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `timecli inspect` says of a model. Parameters are counted in the UNet's and the text encoder's files."""
    files = {file.path: file for file in (checkpoint.unet, checkpoint.text)}.values()
    entries = [entry for file in files for entry in file.entries.values()]
    edited = [checkpoint.unet.entries[checkpoint.name(matrix)]["shape"] for matrix in checkpoint.matrices]
    return {
        "form": "diffusers folder" if checkpoint.is_folder else "single file",
        "architecture": "Stable Diffusion 1.x",
        "text_width": edited[0][-1],
        "dtypes": dict(Counter(entry["dtype"] for entry in entries)),
        "parameters": sum(math.prod(entry["shape"]) for entry in entries),
        "cross_attention_matrices": len(edited),
        "cross_attention_parameters": sum(map(math.prod, edited)),
        "edits": checkpoint.edits,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def _files(folder: Path) -> list[Path]:
    """Everything in a model folder, links followed, without hidden files and pickled copies of the weights."""
    found = [Path(root) / name for root, _, names in os.walk(folder, followlinks=True) for name in names]
    return sorted(
        file
        for file in found
        if file.suffix not in PICKLES and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def size_on_disk(checkpoint: Checkpoint, dtype: torch.dtype | None) -> int:
    """An upper bound, in bytes, of what writing the model takes."""
    files = _files(checkpoint.path) if checkpoint.is_folder else [checkpoint.path]
    return sum(file.stat().st_size for file in files) * (2 if dtype == torch.float32 else 1)


def write_checkpoint(
    checkpoint: Checkpoint,
    target: Path,
    tensors: Mapping[str, torch.Tensor],
    record: dict[str, Any],
    dtype: torch.dtype | None,
) -> None:
    """Write `checkpoint` with `tensors` in place of its own, in the same form.

    Args:
        checkpoint: the model that was read.
        target: where to; replaced if it exists (see `check_target`).
        tensors: replacements by tensor name, of the original shapes.
        record: what was done, appended to the edits in the metadata.
        dtype: convert every float tensor; None keeps each tensor's own and every other byte.
    """
    edits = json.dumps([*checkpoint.edits, record], sort_keys=True)
    metadata = {**checkpoint.unet.metadata, "format": "pt", EDITS: edits}
    with staged(target) as part:
        if not checkpoint.is_folder:
            return rewrite(checkpoint.unet, part, tensors, metadata, dtype)
        index = checkpoint.path / "model_index.json"
        # The index comes last: a folder without it is not a model.
        for file in [*(file for file in _files(checkpoint.path) if file != index), index]:
            copy = part / file.relative_to(checkpoint.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if file == checkpoint.unet.path:
                rewrite(checkpoint.unet, copy, tensors, metadata, dtype)
            elif dtype is not None and file.suffix == ".safetensors":
                other = open_file(file)
                rewrite(other, copy, {}, other.metadata, dtype)
            else:
                shutil.copyfile(file, copy)
