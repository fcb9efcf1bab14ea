"""Models on disk: read named tensors; write by copying the bytes, replacing the edited ranges, publishing by rename.

A single file holds everything in LDM's spelling; a diffusers folder holds a file per component. Either way a
`Checkpoint` says where the cross-attention matrices and the text encoder are, and reads nothing else.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from timecli import layouts
from timecli.errors import CheckpointError, OutputError

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
SAFETENSORS_NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}
BLOCK = 16 * 2**20
EDITS = "timecli.edits"
"""Metadata key: JSON list of the edits that a checkpoint carries, the first made first."""


@dataclass(frozen=True)
class SafeFile:
    """The header of one safetensors file.

    Attributes:
        entries: name -> dtype, shape and data_offsets as in the header, in the order of the data.
        data: where the data section begins, in bytes.
    """

    path: Path
    metadata: Mapping[str, str]
    entries: Mapping[str, dict[str, Any]]
    data: int

    def read(self, names: list[str]) -> dict[str, torch.Tensor]:
        """Tensors by name, in their stored dtypes."""
        with safe_open(self.path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in names}


def open_file(path: Path) -> SafeFile:
    """Read and check a safetensors header.

    Raises:
        CheckpointError: missing, a pickle, truncated, or not safetensors.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    try:
        with path.open("rb") as file:
            start, brace = file.read(8), file.read(1)
            # A header length may begin like a pickle does; only safetensors goes on with "{".
            if path.suffix in PICKLES or (start[:1] in (b"P", b"\x80") and brace != b"{"):
                raise CheckpointError(
                    f"{path} is a pickle, which can run code when it is opened, so it is not read; convert it where "
                    "you trust it: torch.load with weights_only=True, then safetensors.torch.save_file."
                )
            with safe_open(path, framework="pt"):
                pass
            header = json.loads(brace + file.read(struct.unpack("<Q", start)[0] - 1))
    except (SafetensorError, ValueError, struct.error) as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({error}); download or copy it again."
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    metadata = header.pop("__metadata__", {})
    entries = dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))
    return SafeFile(path, metadata, entries, 8 + struct.unpack("<Q", start)[0])


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

    @property
    def edits(self) -> list[dict[str, Any]]:
        """Records of the timecli edits that the model carries."""
        records: list[dict[str, Any]] = json.loads(self.unet.metadata.get(EDITS, "[]"))
        return records

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
            name = matrix.names[self.spelling]
            tensor = self.unet.read([name])[name]
            require_finite(tensor, f"{self.unet.path}: {name}")
            yield matrix, tensor


def require_finite(tensor: torch.Tensor, where: str) -> None:
    """Refuse NaN and infinity with the tensor's name."""
    if not torch.isfinite(tensor).all():
        raise CheckpointError(f"{where} holds NaN or infinite values; the model is damaged, use another copy.")


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
    found = layouts.matrices(unet.entries, spelling, str(path))
    return Checkpoint(path, unet, text, spelling, found, config)


def _weights(folder: Path, stem: str) -> Path:
    """The one weights file of a component."""
    files = sorted(folder.glob(f"{stem}*.safetensors"))
    if len(files) == 1:
        return files[0]
    pickles = sorted(folder.glob("*.bin"))
    if pickles and not files:
        return pickles[0]
    found = ", ".join(file.name for file in files) or "none"
    raise CheckpointError(
        f"{folder} must hold one {stem}.safetensors (found: {found}); save the model with one variant, unsharded."
    )


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `timecli inspect` says of a model. Parameters are counted in the UNet's and the text encoder's files."""
    files = {file.path: file for file in (checkpoint.unet, checkpoint.text)}.values()
    entries = [entry for file in files for entry in file.entries.values()]
    edited = [checkpoint.unet.entries[matrix.names[checkpoint.spelling]]["shape"] for matrix in checkpoint.matrices]
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


def size_on_disk(checkpoint: Checkpoint, dtype: torch.dtype | None) -> int:
    """An upper bound, in bytes, of what writing the model takes."""
    files = (
        [file for file in checkpoint.path.rglob("*") if file.is_file()] if checkpoint.is_folder else [checkpoint.path]
    )
    return sum(file.stat().st_size for file in files) * (2 if dtype == torch.float32 else 1)


def check_target(target: Path, sources: list[Path], force: bool, size: int) -> None:
    """Refuse a target before any work is done.

    Raises:
        OutputError: it exists, is one of the inputs, its folder is missing, or the disk has no room for `size` bytes.
    """
    if not target.parent.is_dir():
        raise OutputError(f"{target.parent} is not a folder; create it first.")
    if target.exists():
        if any(source.exists() and target.samefile(source) for source in sources):
            raise OutputError(f"{target} is an input of this command; choose another output.")
        if not force:
            raise OutputError(f"{target} already exists; use --force to replace it.")
        if target.is_dir() and not (target / "model_index.json").exists():
            raise OutputError(f"{target} is a folder but not a model; choose another output.")
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise OutputError(
            f"{target.parent} has {free / 1e9:.2f} GB free and the output needs {size / 1e9:.2f} GB; make room."
        )


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to. It takes the target's place when all went well and vanishes otherwise."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        if target.is_dir():
            old = target.with_name(f".{target.name}.{os.getpid()}.old")
            target.rename(old)
            part.rename(target)
            shutil.rmtree(old)
        else:
            os.replace(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
        raise


def write_bytes(target: Path, content: bytes) -> None:
    """Write a small file, complete or not at all."""
    with staged(target) as part, part.open("wb") as file:
        file.write(content)
        _flush(file)


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
    metadata = {
        **checkpoint.unet.metadata,
        "format": "pt",
        EDITS: json.dumps([*checkpoint.edits, record], sort_keys=True),
    }
    with staged(target) as part:
        if not checkpoint.is_folder:
            _rewrite(checkpoint.unet, part, tensors, metadata, dtype)
            return
        index = checkpoint.path / "model_index.json"
        files = sorted(file for file in checkpoint.path.rglob("*") if file.is_file() and file != index)
        for file in [*files, index]:  # the index last: a folder without it is not a model
            copy = part / file.relative_to(checkpoint.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if file == checkpoint.unet.path:
                _rewrite(checkpoint.unet, copy, tensors, metadata, dtype)
            elif dtype is not None and file.suffix == ".safetensors":
                other = open_file(file)
                _rewrite(other, copy, {}, other.metadata, dtype)
            else:
                shutil.copyfile(file, copy)


def _rewrite(
    source: SafeFile,
    target: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    dtype: torch.dtype | None,
) -> None:
    """Copy a file tensor by tensor, in its own order, replacing and converting."""
    entries, position = {}, 0
    for name, entry in source.entries.items():
        start, stop = entry["data_offsets"]
        kind = entry["dtype"]
        if dtype is not None and kind in SAFETENSORS_NAMES.values():
            stop = start + (stop - start) * dtype.itemsize // _itemsize(kind)
            kind = SAFETENSORS_NAMES[dtype]
        entries[name] = {"dtype": kind, "shape": entry["shape"], "data_offsets": [position, position + stop - start]}
        position += stop - start
    with (
        source.path.open("rb") as original,
        target.open("wb") as file,
        safe_open(source.path, framework="pt") as reader,
    ):
        file.write(_header(entries, metadata))
        for name, entry in source.entries.items():
            if name in tensors:
                file.write(_raw(tensors[name]))
            elif entries[name]["dtype"] != entry["dtype"]:
                file.write(_raw(convert(reader.get_tensor(name), dtype, f"{source.path}: {name}")))
            else:
                _copy(original, file, source.data + entry["data_offsets"][0], source.data + entry["data_offsets"][1])
        _flush(file)


def convert(tensor: torch.Tensor, dtype: torch.dtype | None, where: str) -> torch.Tensor:
    """`tensor` in `dtype`. Raises CheckpointError when a finite value does not fit."""
    result = tensor.to(dtype or tensor.dtype)
    if torch.isfinite(tensor).all() and not torch.isfinite(result).all():
        raise CheckpointError(
            f"{where} does not fit into {str(result.dtype).removeprefix('torch.')}; use --dtype fp32 or bf16."
        )
    return result


def _itemsize(kind: str) -> int:
    return next(dtype.itemsize for dtype, name in SAFETENSORS_NAMES.items() if name == kind)


def _header(entries: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """Length and JSON, metadata sorted so that equal content is equal bytes; padded so that the data is aligned."""
    text = json.dumps(
        {"__metadata__": dict(sorted(metadata.items())), **entries}, separators=(",", ":"), ensure_ascii=False
    ).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _raw(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _copy(source: BinaryIO, target: BinaryIO, start: int, stop: int) -> None:
    source.seek(start)
    while start < stop:
        block = source.read(min(BLOCK, stop - start))
        if not block:
            raise OSError(f"{source.name} became shorter while it was read")
        target.write(block)
        start += len(block)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
