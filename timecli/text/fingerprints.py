"""Which text encoder an edit was compiled for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import torch

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
    """The fingerprints that a delta for a model can have; none where its text encoder is elsewhere.

    Where a diffusion transformer reads the states of CLIP's text tower, a delta that was compiled for a UNet with the
    same tower is for it, too.
    """
    if not checkpoint.family.by_pipeline:
        return fingerprints(checkpoint.text_encoders())
    parts, towers = [], []
    for text in checkpoint.encoders:  # one of them at a time is in memory
        weights = text.read()
        parts.append(hashes(text, weights))
        if [text.tower.folder] == list(checkpoint.family.sequence) and text.tower.model == CLIP:
            towers.append({name.removeprefix("text_model."): tensor for name, tensor in weights.items()})
    own = (of_parts(checkpoint, parts),) if parts else ()
    return (*own, *fingerprints(towers)) if towers else own


def hashes(text: EncoderFiles, weights: Mapping[str, torch.Tensor]) -> set[str]:
    """SHA-256 of each tensor that states depend on, rounded to fp16."""
    return {_hash(tensor) for name, tensor in weights.items() if tensor.is_floating_point() and text.is_seen(name)}


def of_parts(checkpoint: Checkpoint, parts: Iterable[set[str]]) -> str:
    """The fingerprint of a diffusion transformer's text encoders, whatever their tensors' names and order are.

    They differ between forms of one text encoder. The norm before the map is a part of it.
    """
    norm = checkpoint.norm()
    own = set().union(*parts) | ({_hash(norm)} if norm is not None else set())
    return hashlib.sha256("".join(sorted(own)).encode()).hexdigest()


def _hash(tensor: torch.Tensor) -> str:
    return hashlib.sha256(f"{list(tensor.shape)}".encode() + raw(tensor.half())).hexdigest()
