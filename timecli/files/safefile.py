"""Safetensors files, read: a checked header, and tensors by name."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from timecli.errors import CheckpointError, one_line, out_of_memory
from timecli.files.foreign import ARCHIVE, START, identified, is_safetensors, read_json, require_file
from timecli.shown import amount

if TYPE_CHECKING:  # a header is read, and refused, before torch is
    import torch

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
CONVERT = (
    "import sys, torch, safetensors.torch as s; d = torch.load(sys.argv[1], 'cpu', weights_only=True); "
    "d = d.get('state_dict', d); "
    "s.save_file({k: v.clone() for k, v in d.items() if torch.is_tensor(v)}, sys.argv[2])"
)
"""Makes a safetensors file of a pickle of tensors, and runs nothing that is in it."""
PIECE = 2**24
"""Bytes that are read at once."""
HEADER_LIMIT = 100_000_000
"""Bytes of a header that the safetensors library reads."""
ITEMSIZES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes of a number of each dtype that is read here, by safetensors' names."""


@dataclass(frozen=True)
class SafeFile:
    """The header of one safetensors file.

    Attributes:
        entries: name -> dtype, shape and data_offsets as in the header, in the order of the data.
        data: where the data section begins, in bytes.
        stamp: size in bytes and time of the last change in ns when the header was read.
    """

    path: Path
    metadata: Mapping[str, str]
    entries: Mapping[str, dict[str, Any]]
    data: int
    stamp: tuple[int, int]

    def read(self, names: Iterable[str]) -> Iterator[torch.Tensor]:
        """Tensors one by one, in their stored dtypes, in memory of their own."""
        return (tensor.clone() for tensor in self.mapped(names))

    def mapped(self, names: Iterable[str]) -> Iterator[torch.Tensor]:
        """Tensors one by one, in their stored dtypes, whose memory is the file: it must stay as it is."""
        self.require_unchanged()
        with safe_open(self.path, framework="pt") as file:
            for name in names:
                try:
                    tensor = file.get_tensor(name)
                except SafetensorError as error:
                    raise CheckpointError(f"{self.path}: {name} cannot be read ({one_line(error)}).") from error
                yield tensor
        self.require_unchanged()

    def content(self, name: str) -> Iterator[bytes]:
        """A tensor's bytes as they stand in the file, piece by piece."""
        self.require_unchanged()
        start, stop = self.entries[name]["data_offsets"]
        with self.path.open("rb") as file:
            file.seek(self.data + start)
            for first in range(start, stop, PIECE):
                yield file.read(min(PIECE, stop - first))

    def require_unchanged(self) -> None:
        """Refuse a file that somebody has written to since its header was read."""
        if _stamp(self.path) != self.stamp:
            raise CheckpointError(f"{self.path} changed while it was read; wait until it is complete and try again.")


def open_file(path: Path) -> SafeFile:
    """Read and check a safetensors header.

    Raises:
        CheckpointError: missing, a pickle, truncated, or not safetensors; the sentence says what it is instead.
    """
    size, start = require_file(path, CheckpointError), b""
    try:
        with path.open("rb") as file:
            start = file.read(START)
            _refuse_pickle(path, start)
            _require_utf8(path)
            with safe_open(path, framework="np"):
                pass
            file.seek(8)
            header = json.loads(file.read(_length(start)), object_pairs_hook=_unique)
            stamp = _stamp(path)
    except (SafetensorError, ValueError, OSError) as error:
        if out_of_memory(error):
            raise
        if isinstance(error, OSError):
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
        raise CheckpointError(f"{path} is {_instead(path, start, size, one_line(error))}.") from error
    metadata = header.pop("__metadata__", None) or {}
    entries = dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))
    return SafeFile(path, metadata, entries, 8 + _length(start), stamp)


def _length(start: bytes) -> int:
    """Bytes of the header's JSON, as a safetensors file that begins so says."""
    return int.from_bytes(start[:8], "little")


def _refuse_pickle(path: Path, start: bytes) -> None:
    # A header length may begin like a pickle does; only safetensors goes on with "{".
    zipped = start.startswith(b"PK") and (b"data.pkl" in start or not start.startswith(b"PK\x03\x04"))
    named = path.suffix in PICKLES and bool(start) and identified(start) in (None, ARCHIVE)
    if named or ((zipped or start.startswith(b"\x80")) and start[8:9] != b"{"):
        target = path.with_suffix(".safetensors")
        paths = map(
            shlex.quote, map(str, (path, target if target != path else path.with_stem(f"{path.stem}-converted")))
        )
        raise CheckpointError(
            f"{path} is a pickle, which can run code when it is opened, so it is not read; where you trust it, convert "
            f'it with `python -c "{CONVERT}" {" ".join(paths)}`.'
        )


def _require_utf8(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{path} has a name that is not UTF-8, which safetensors cannot open; rename it."
        ) from error


def _instead(path: Path, start: bytes, size: int, reason: str) -> str:
    """What a file is that is not safetensors, or what a safetensors file lacks, and what to do."""
    if not start:
        return "empty, not a complete safetensors file; download or copy it again"
    if found := identified(start):
        return found
    text = start.decode("utf-8", "ignore")
    if is_safetensors(start) or not text.isprintable() and not text.replace("\n", "").isprintable():
        if (whole := _whole(path, 8 + _length(start), size)) and whole < size:
            more = f"{amount(size - whole, 'byte')} {'follows' if size == whole + 1 else 'follow'}"
            return (
                f"no safetensors file as it is, since {more} its last tensor; no tensor is missing, so cut a copy with "
                f"`python -c \"import os; os.truncate('COPY', {whole})\"` and give that"
            )
        lacks = _lacks(path, 8 + _length(start), size)
        return f"not a complete safetensors file ({lacks or reason}); download or copy it again"
    if path.suffix == ".toml":
        return "a manifest, not a model or a delta; `plan`, `edit` and `verify` take manifests first, and MODEL last"
    begins = f"text, not a complete safetensors file, and begins with {text[:60]!r}"
    return f"{begins}; give the model's own file, or download it again"


def _lacks(path: Path, data: int, size: int) -> str | None:
    """How many bytes a file lacks, by its own header; None where that cannot be told."""
    if data > size and data <= HEADER_LIMIT:
        return f"{amount(data - size, 'byte')} of its header and all tensors are missing"
    whole = _whole(path, data, size)
    return f"{whole - size:,} of {whole:,} bytes are missing" if whole and whole > size else None


def _whole(path: Path, data: int, size: int) -> int | None:
    """How many bytes a file has by its own header; None where that cannot be told."""
    if not 8 < data <= min(HEADER_LIMIT, size):
        return None
    try:
        with path.open("rb") as file:
            file.seek(8)
            header = read_json(file.read(data - 8))
        return data + max(int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no key stands twice: readers would not agree on which one counts."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("its header names something twice")
    return dict(pairs)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


DAMAGED = "the model is damaged, use another copy"
"""What to do about NaN and infinity in a file."""


def require_finite(tensor: torch.Tensor, where: str, advice: str = DAMAGED) -> None:
    """Refuse NaN and infinity with the tensor's name."""
    if not finite(tensor):
        raise CheckpointError(f"{where} holds NaN or infinite values; {advice}.")


def finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite; the least and the largest tell, five times sooner than every value."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(bool(end.isfinite()) for end in plain(tensor).aminmax())


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with which torch calculates: float32 in place of fp8, whose every value it holds."""
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize == 1 else tensor
