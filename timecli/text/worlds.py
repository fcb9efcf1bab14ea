"""The everyday world as a file: in the user's cache, where it is encoded once, or given to a command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path

from timecli.errors import CheckpointError, ManifestError, TimecliError
from timecli.files import foreign
from timecli.files.rewriting import write_tensors
from timecli.files.safefile import open_file
from timecli.files.seals import make_private
from timecli.files.tensors import raw
from timecli.manifests import records
from timecli.manifests.manifest import Manifest
from timecli.models import streams
from timecli.text.everyday import OTHER, Everyday, Tick, about, measured, prompts
from timecli.text.readers import TextEncoder

KEY = "timecli.everyday"
"""The one metadata entry of a file of everyday prompts: a JSON object."""
SAVED = ("encoder", "list", "positions", "clip_skip", "length", "prompts", "sha256")
MOST = 2**30
"""Bytes that a cache folder keeps: a root for T5 has 134 MB, and each LoRA on a text encoder makes another."""
SLACK = 0.01
"""Share by which a root may have less than the states that it is made of: those are written in float32."""


def cache() -> Path:
    """The user's folder for what is encoded once."""
    return user_cache_path("timecli", appauthor=False)


def kept(manifest: Manifest, encoder: TextEncoder, folder: Path | None, tick: Tick = lambda _: None) -> Everyday:
    """The root from a cache folder, or measured and put there; a damaged or foreign file is made anew.

    Each kind of device has its own, whose last digits differ: an edit has the same bytes with and without a cache.

    Args:
        manifest: as in `measured`.
        encoder: as in `measured`.
        folder: the cache; None for no cache. One that others can write to is left alone.
        tick: as in `measured`; called for what is encoded only.
    """
    if folder is None or not make_private(folder):
        return measured(manifest, encoder, tick)
    wanted = about(manifest, encoder, prompts(manifest, encoder))
    key = {**wanted, "device": encoder.device.type}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = folder / f"everyday-{name}.safetensors"
    try:
        found = load(path)
        if found.about == wanted and _has_streams(found, encoder):
            return found
    except (TimecliError, OSError):
        pass
    made = measured(manifest, encoder, tick)
    with suppress(TimecliError, OSError):  # a cache that cannot be written costs time and nothing else
        save(made, path)
        _forget(folder)
    return made


def _forget(folder: Path) -> None:
    """Remove what was used longest ago, down to `MOST` bytes; what was used last stays."""
    found = [(file, file.lstat()) for file in folder.glob("everyday-*.safetensors")]
    found.sort(key=lambda one: max(one[1].st_atime_ns, one[1].st_mtime_ns), reverse=True)
    sizes = accumulate(status.st_size for _, status in found)
    for (file, _), size in list(zip(found, sizes, strict=True))[1:]:
        if size > MOST:
            file.unlink()


def given(manifest: Manifest, encoder: TextEncoder, path: Path) -> Everyday:
    """The root in a file that was made for this text encoder.

    Raises:
        CheckpointError: it is no such file, or for another text encoder, layer or `tokens`.
    """
    found = load(path)
    wanted = about(manifest, encoder, ())
    for key, what in (
        ("encoder", "text encoder"), ("clip_skip", "clip_skip"), ("length", "solve.length"),
        ("positions", "solve.tokens"), (OTHER, "program (--comfyui)"),
    ):  # fmt: skip
        if found.about.get(key) != wanted.get(key):
            raise CheckpointError(f"{path} was made for another {what}; make it anew with `timecli everyday`.")
    if not _has_streams(found, encoder):
        raise CheckpointError(f"{path} lacks a stream of text of this model; make it anew with `timecli everyday`.")
    return found


def _has_streams(found: Everyday, encoder: TextEncoder) -> bool:
    """Whether there is a root as wide as what the network is given, for each stream."""
    widths = {stream: root.shape[1] for stream, root in found.roots.items()}
    return widths == {reader.stream: reader.width for reader in encoder.readers}


def save(made: Everyday, path: Path, replace: bool = True, follow: bool = False) -> None:
    """Write the root; reading it back gives the same bits. `replace` and `follow` are those of `staged`."""
    tensors = {streams.of_stream(stream, "root"): root for stream, root in made.roots.items()}
    tensors |= {streams.of_stream(stream, "ends"): ends for stream, ends in made.ends.items()}
    found = {**made.about, "prompts": made.prompts}
    metadata = json.dumps({**found, "sha256": _sum(found, tensors)}, sort_keys=True)
    write_tensors(path, tensors, {KEY: metadata}, replace, follow)


def _sum(found: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """By which damage to a file is told."""
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + raw(tensor))
    return digest.hexdigest()


def load(path: Path) -> Everyday:
    """Read a file that `save` wrote.

    Raises:
        CheckpointError: it is another file, or damaged.
    """
    file = open_file(path)
    try:
        said = records.table(foreign.read_json(file.metadata[KEY]), SAVED, (*SAVED, OTHER))
        written, tensors = said.pop("sha256"), dict(zip(file.entries, file.read(file.entries), strict=True))
        if _sum(said, tensors) != written:
            raise CheckpointError(f"{path} is damaged; make it anew with `timecli everyday`.")
        world, found = said.pop("prompts"), streams.streams_of(file.entries, "root")
        roots, ends = (
            {stream: tensors[streams.of_stream(stream, name)] for stream in found} for name in ("root", "ends")
        )
        for stream in found:
            _require_fit(roots[stream], ends[stream], len(world))
    except (KeyError, ValueError, ManifestError) as error:
        raise CheckpointError(f"{path} is no file of everyday prompts; make it with `timecli everyday`.") from error
    return Everyday(roots, ends, world, said)


def _require_fit(root: torch.Tensor, ends: torch.Tensor, prompts: int) -> None:
    """Raises ValueError for tensors of one stream that `save` would not have written."""
    if (root.dtype, root.ndim, ends.dtype, ends.ndim) != (torch.float64, 2, torch.float32, 2):
        raise ValueError("other tensors")
    if root.shape[1] != ends.shape[1] or len(ends) != prompts or len(root) < min(ends.shape):
        raise ValueError("tensors that do not fit")
    if not (root.isfinite().all() and ends.isfinite().all()):
        raise ValueError("NaN or infinity")
    # Rᵀ R is a sum over all positions, the ends among them: along every axis and state it is no less than theirs.
    last = ends.double()
    has = torch.cat([root.square().sum(0), (last @ root.T).square().sum(1)])
    least = torch.cat([last.square().mean(0), (last @ last.T).square().mean(1)])
    if not last.any(dim=1).all() or (has < (1 - SLACK) * least).any():
        raise ValueError("less than the ends of the prompts alone")
