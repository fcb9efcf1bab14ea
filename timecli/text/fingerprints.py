"""Which text encoder an edit was compiled for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from timecli.files.quantised import numbers
from timecli.files.tensors import raw
from timecli.models.checkpoint import Checkpoint
from timecli.models.encoders import EncoderFiles
from timecli.models.openclip import HF_PROJECTION

CLIP = "CLIPTextModel"
"""transformers' class of CLIP's text tower, whose states behind the last norm SD 1 and SD 2 read, too."""


def fingerprint(towers: Sequence[Mapping[str, torch.Tensor]]) -> str:
    """SHA-256 of the weights, rounded to fp16 so that fp32 and fp16 copies count as one encoder."""
    return _digest(towers, ("position_ids",))


def fingerprints(towers: Sequence[Mapping[str, torch.Tensor]]) -> tuple[str, str]:
    """The fingerprint, and that of an edit which leaves the pooled vector out."""
    return fingerprint(towers), _digest(towers, ("position_ids", HF_PROJECTION))


def _digest(towers: Sequence[Mapping[str, torch.Tensor]], left_out: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for weights in towers:
        for key in sorted(key for key in weights if not key.endswith(left_out)):
            digest.update(key.encode())
            digest.update(raw(weights[key].half()))
    return digest.hexdigest()


def of_model(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The fingerprints that a delta for a model can have; none where its text encoder is elsewhere."""
    if not checkpoint.family.by_pipeline:
        return fingerprints(checkpoint.text_encoders())
    parts = [part(checkpoint, text, text.read()) for text in checkpoint.encoders]  # one of them at a time is in memory
    return of_parts(checkpoint, parts) if parts else ()


class Part(NamedTuple):
    """Of one text encoder of a diffusion transformer the hashes of its tensors, and its fingerprints as CLIP's."""

    hashes: set[str]
    clip: tuple[str, ...]


def part(checkpoint: Checkpoint, text: EncoderFiles, weights: Mapping[str, torch.Tensor]) -> Part:
    """Hashes of the tensors that states depend on, rounded to fp16; of fp8 with a factor those of the product.

    Where the network reads the states of CLIP's text tower, a delta that was compiled for a UNet with the same tower is
    for it, too.
    """
    hashes = {_hash(tensor) for name, tensor in numbers(weights) if tensor.is_floating_point() and text.is_seen(name)}
    if [text.tower.folder] != list(checkpoint.family.sequence) or text.tower.model != CLIP:
        return Part(hashes, ())
    return Part(hashes, fingerprints([{name.removeprefix("text_model."): tensor for name, tensor in numbers(weights)}]))


def of_parts(checkpoint: Checkpoint, parts: Sequence[Part]) -> tuple[str, ...]:
    """The fingerprints of a diffusion transformer's text encoders, the first whatever their names and order are.

    They differ between forms of one text encoder. The norm before the map is a part of it.
    """
    norm = checkpoint.norm()
    own = set().union(*(one.hashes for one in parts)) | ({_hash(norm)} if norm is not None else set())
    return (_joined(own), *(found for one in parts for found in one.clip))


def of_tensors(tensors: Iterable[torch.Tensor]) -> str:
    """The first of `of_parts`, of the tensors themselves: of all that states depend on, and the norm's."""
    return _joined({_hash(tensor) for tensor in tensors})


def _joined(hashes: set[str]) -> str:
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


def _hash(tensor: torch.Tensor) -> str:
    return hashlib.sha256(f"{list(tensor.shape)}".encode() + raw(tensor.half())).hexdigest()
