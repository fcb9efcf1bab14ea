"""Which text encoder an edit was compiled for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch

from timecli.files.tensors import raw
from timecli.models.checkpoint import Checkpoint
from timecli.models.openclip import HF_PROJECTION


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
    weights = checkpoint.text_encoders()
    if not checkpoint.family.by_pipeline:
        return fingerprints(weights)
    norm = checkpoint.norm()
    return (of_weights([*weights, *([{"norm": norm}] if norm is not None else [])]),) if weights else ()


def of_weights(parts: Sequence[Mapping[str, torch.Tensor]]) -> str:
    """SHA-256 of all tensors, rounded to fp16, whatever their names: they differ between forms of one text encoder."""
    own = {
        hashlib.sha256(f"{list(tensor.shape)}".encode() + raw(tensor.half())).hexdigest()
        for weights in parts
        for tensor in weights.values()
        if tensor.is_floating_point()
    }
    return hashlib.sha256("".join(sorted(own)).encode()).hexdigest()
