"""Safetensors files: read a header and named tensors; write by copying bytes and replacing ranges, whole or not at all.

The data section is copied in its own order, so that what is not edited stays byte for byte where it was.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from timecli.errors import CheckpointError, OutputError

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
SAFETENSORS_NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}
ITEMSIZES = {name: dtype.itemsize for dtype, name in SAFETENSORS_NAMES.items()}
BLOCK = 16 * 2**20


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


def require_finite(tensor: torch.Tensor, where: str) -> None:
    """Refuse NaN and infinity with the tensor's name."""
    if not torch.isfinite(tensor).all():
        raise CheckpointError(f"{where} holds NaN or infinite values; the model is damaged, use another copy.")


def convert(tensor: torch.Tensor, dtype: torch.dtype | None, where: str) -> torch.Tensor:
    """`tensor` in `dtype`. Raises CheckpointError when a finite value does not fit."""
    result = tensor.to(dtype or tensor.dtype)
    if (torch.isfinite(tensor) & ~torch.isfinite(result)).any():
        raise CheckpointError(
            f"{where} does not fit into {str(result.dtype).removeprefix('torch.')}; use --dtype fp32 or bf16."
        )
    return result


def check_target(target: Path, sources: list[Path], force: bool, size: int, folder: bool = False) -> None:
    """Refuse a target before any work is done.

    Args:
        target: where the result should go.
        sources: what is read; nothing of it may be replaced.
        force: whether another existing target may be.
        size: bytes that the result takes.
        folder: whether the result is a folder.

    Raises:
        OutputError: it exists, is or lies in one of the sources, its folder is missing, or the disk is full.
    """
    if not target.parent.is_dir():
        raise OutputError(f"{target.parent} is not a folder; create it first.")
    if any(source.resolve() in (target.resolve(), *target.resolve().parents) for source in sources):
        raise OutputError(f"{target} is an input of this command; choose another output.")
    if target.exists():
        if any(source.exists() and target.samefile(source) for source in sources):
            raise OutputError(f"{target} is an input of this command; choose another output.")
        if not force:
            raise OutputError(f"{target} already exists; use --force to replace it.")
        if target.is_dir() != folder or (folder and not (target / "model_index.json").exists()):
            raise OutputError(
                f"{target} exists and is not a {'model folder' if folder else 'file'}; choose another output."
            )
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise OutputError(
            f"{target.parent} has {free / 1e9:.2f} GB free and the output needs {size / 1e9:.2f} GB; make room."
        )


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to. It takes the target's place when all went well and vanishes otherwise."""
    part, old = (target.with_name(f".{target.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    try:
        yield part
        if target.is_dir():  # a folder cannot be replaced in one step
            target.rename(old)
            part.rename(target)
        else:
            os.replace(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_bytes(target: Path, content: bytes) -> None:
    """Write a small file, complete or not at all."""
    with staged(target) as part, part.open("wb") as file:
        file.write(content)
        _flush(file)


def rewrite(
    source: SafeFile,
    target: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    dtype: torch.dtype | None,
) -> None:
    """Copy a file tensor by tensor, in its own order, replacing and converting."""
    entries, position = {}, 0
    for name, entry in source.entries.items():
        kind = entry["dtype"]
        if name in tensors:
            kind = SAFETENSORS_NAMES[tensors[name].dtype]
        elif dtype is not None and kind in ITEMSIZES:
            kind = SAFETENSORS_NAMES[dtype]
        start, stop = entry["data_offsets"]
        size = stop - start if kind == entry["dtype"] else (stop - start) // ITEMSIZES[entry["dtype"]] * ITEMSIZES[kind]
        entries[name] = {"dtype": kind, "shape": entry["shape"], "data_offsets": [position, position + size]}
        position += size
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
