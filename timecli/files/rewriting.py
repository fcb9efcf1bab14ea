"""Safetensors files, written: anew, or byte for byte as they were but for the tensors that are replaced."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from timecli.files.outfile import PAGE, OutFile, no_link, sync
from timecli.files.quantised import convertible
from timecli.files.safefile import ITEMSIZES, SafeFile
from timecli.files.staging import staged
from timecli.files.tensors import SAFETENSORS_NAMES, convert, raw
from timecli.files.writing import sha256

DATA_HASH = "modelspec.hash_sha256"
"""Metadata key (ModelSpec): 0x and the SHA-256 of the data section."""


def write_tensors(
    target: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    replace: bool = True,
    follow: bool = False,
) -> None:
    """Write a file of its own, in the order of `tensors`; equal content is equal bytes.

    `replace` and `follow` are those of `staged`.
    """
    entries, position = {}, 0
    for name, tensor in tensors.items():
        stop = position + tensor.numel() * tensor.itemsize
        kind = SAFETENSORS_NAMES[tensor.dtype]
        entries[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [position, stop]}
        position = stop
    with staged(target, replace, follow=follow) as part, OutFile(part) as file:
        file.put(_header(entries, metadata, 0))
        for tensor in tensors.values():
            file.put(raw(tensor))


def rewrite(
    source: SafeFile,
    target: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    dtype: torch.dtype | None,
) -> None:
    """Copy a file tensor by tensor, in its own order, replacing and converting what is `convertible`.

    The data section begins at the same place within a page as in the source, so that file systems that can share blocks
    between files may do so.
    """
    source.require_unchanged()
    converted = set() if dtype is None else convertible(source)
    entries, position = {}, 0
    for name, entry in source.entries.items():
        kind = entry["dtype"]
        if name in tensors:
            kind = SAFETENSORS_NAMES[tensors[name].dtype]
        elif dtype is not None and name in converted:
            kind = SAFETENSORS_NAMES[dtype]
        start, stop = entry["data_offsets"]
        size = stop - start if kind == entry["dtype"] else (stop - start) // ITEMSIZES[entry["dtype"]] * ITEMSIZES[kind]
        entries[name] = {"dtype": kind, "shape": entry["shape"], "data_offsets": [position, position + size]}
        position += size
    with (
        source.path.open("rb") as original,
        OutFile(target) as file,
        safe_open(source.path, framework="pt") as reader,
    ):
        file.put(_header(entries, metadata, source.data))
        copied = source.data  # all before this is in the target, untouched tensors side by side go in one piece
        for name, entry in source.entries.items():
            if name not in tensors and entries[name]["dtype"] == entry["dtype"]:
                continue
            start, stop = (source.data + offset for offset in entry["data_offsets"])
            file.take(original, copied, start)
            if name in tensors:
                file.put(raw(tensors[name]))
            else:
                file.put(raw(convert(reader.get_tensor(name), dtype, f"{source.path}: {name}")))
            copied = stop
        file.take(original, copied, source.stamp[0])
    source.require_unchanged()
    if DATA_HASH in metadata:
        start = len(_header(entries, metadata, source.data))
        known = {**metadata, DATA_HASH: f"0x{sha256(target, start)}"}
        with open(target, "r+b", buffering=0, opener=no_link) as file:
            file.write(_header(entries, known, source.data))
            sync(file.fileno())


def _header(entries: Mapping[str, Any], metadata: Mapping[str, str], data: int) -> bytes:
    """Length and JSON, metadata sorted so that equal content is equal bytes.

    Padded so that the data begins where it did in the source (`data`) within a page, and at a multiple of 8. The hash
    of the data has always the same length, so that it can be filled in later.
    """
    if DATA_HASH in metadata:
        metadata = {**metadata, DATA_HASH: metadata[DATA_HASH].ljust(66, "0")}
    text = json.dumps(
        {"__metadata__": dict(sorted(metadata.items())), **entries}, separators=(",", ":"), ensure_ascii=False
    ).encode()
    text += b" " * ((data - 8 - len(text)) % PAGE if data % 8 == 0 else -len(text) % 8)
    return struct.pack("<Q", len(text)) + text
