"""Applying: a delta becomes the edited maps of a checkpoint that read text. No network is built.

`timecli edit` compiles and applies, so that it gives the same bytes as the one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from timecli.editing.delta import Delta, Origin
from timecli.editing.solve import Operator, apply
from timecli.errors import CheckpointError, DeltaError
from timecli.files.safefile import finite
from timecli.files.tensors import convert, raw
from timecli.models.checkpoint import Checkpoint
from timecli.models.maps import require_maps
from timecli.models.streams import ENTRY, Matrix


@dataclass(frozen=True)
class Change:
    """What an edit did to one matrix: `relative` is ‖W' − W‖ / ‖W‖ in the Frobenius norm."""

    name: str
    shape: tuple[int, ...]
    relative: float


@dataclass(frozen=True)
class Edited:
    """The edited matrices.

    Attributes:
        tensors: by file and name.
        changes: what changed, in the order of the matrices.
        base: the `base_hash` of the model before; `made` is that of the model after.
        rounding: the share of the edit that the dtype's rounding lost, ‖W' − W (I + D)‖ / ‖W D‖ over all matrices.
    """

    tensors: dict[tuple[Path, str], torch.Tensor]
    changes: tuple[Change, ...]
    base: str
    made: str
    rounding: float


def require_same_encoder(delta: Delta, checkpoint: Checkpoint, fingerprints: Collection[str]) -> None:
    """Refuse a delta that was compiled for another text encoder than the checkpoint's, which has these fingerprints.

    Of a diffusion transformer whose text encoders are elsewhere, there are none, and its width is all that is compared.
    """
    for stream in (stream for stream in checkpoint.family.streams if stream in delta.operators):
        width, wanted = delta.operators[stream].width, checkpoint.width_of(stream)
        if width != wanted:
            raise DeltaError(
                f"the delta {delta.origin.name!r} has width {width} and {checkpoint.path} takes {stream} of width "
                f"{wanted}; compile the manifest for this model."
            )
    if fingerprints and delta.origin.encoder not in fingerprints:
        raise DeltaError(
            f"the delta {delta.origin.name!r} was compiled for another text encoder than that of {checkpoint.path}; "
            "compile the manifest for this model."
        )


def edit_matrices(
    checkpoint: Checkpoint,
    deltas: Sequence[Delta],
    device: torch.device,
    strength: float = 1.0,
    dtype: torch.dtype | None = None,
) -> Edited:
    """Apply deltas, one after the other, to every matrix that they cover.

    Args:
        checkpoint: the model; it is only read.
        deltas: compiled edits, for the checkpoint's text encoder (`require_same_encoder`).
        device: where to multiply.
        strength: s in W' = W (I + s D).
        dtype: of the results; None keeps each matrix's own.

    Raises:
        CheckpointError: wrong width, NaN or infinity, nothing but zeros, a value that the dtype cannot hold, or no such
            layer.
    """
    for delta in deltas:
        require_maps(checkpoint, delta.origin.matrices, delta.origin.layers)
    _ = checkpoint.edits  # refuses files that carry different ones
    tensors, changes, lost, whole, alive = {}, [], 0.0, 0.0, False
    base, made = hashlib.sha256(), hashlib.sha256()
    for place, before in checkpoint.projections():
        operators, where = for_matrix(deltas, place.matrix), place.where
        if operators:
            require_width(before, where, operators[0].width, place.matrix.leading)
            exact = _exact(before, operators, device, strength)
            after = tensors[place.key] = _rounded(exact, dtype or before.dtype, where)
            changes.append(Change(place.name, tuple(before.shape), relative_change(before, after)))
            lost += float((after.to(exact) - exact).square().sum())
            whole += float((exact - before.to(exact)).square().sum())
            alive = alive or bool(exact.any())
        if not place.twin:
            base.update(raw(before))
            made.update(raw(tensors[place.key] if operators else convert(before, dtype or before.dtype, where)))
    if changes and not alive:
        raise CheckpointError(f"{checkpoint.path} has only zeros in its maps that read text; use another copy.")
    rounding = (lost / whole) ** 0.5 if whole else 0.0
    return Edited(tensors, tuple(changes), base.hexdigest(), made.hexdigest(), rounding)


def covers(origin: Origin, matrix: Matrix) -> bool:
    """Whether an edit is for this matrix: one of some keys, values or layers is for no other map."""
    if matrix.kind == ENTRY:
        return origin.layers is None and set(origin.matrices) == {"k", "v"}
    return matrix.kind in origin.matrices and (origin.layers is None or matrix.layer in origin.layers)


def for_matrix(deltas: Sequence[Delta], matrix: Matrix) -> list[Operator]:
    """What some edits do to this matrix, one after the other."""
    return [
        delta.operators[matrix.stream]
        for delta in deltas
        if covers(delta.origin, matrix) and matrix.stream in delta.operators
    ]


def edit_matrix(before: torch.Tensor, where: str, operators: Sequence[Operator], device: torch.device) -> torch.Tensor:
    """One matrix `[out, d]` after some operators, in its own dtype; `where` is how errors call it."""
    return _rounded(_exact(before, operators, device, 1.0), before.dtype, where)


def require_width(before: torch.Tensor, where: str, width: int, leading: bool) -> None:
    """Refuse a matrix that takes text of another width."""
    if before.ndim != 2 or before.shape[1] < width or (before.shape[1] > width and not leading):
        raise CheckpointError(
            f"{where} is {list(before.shape)} and the text encoder's width is {width}; "
            "its parts come from different models."
        )


def _exact(before: torch.Tensor, operators: Sequence[Operator], device: torch.device, strength: float) -> torch.Tensor:
    """A matrix after some operators, before it is rounded, on the CPU."""
    exact = before.to(device)
    for operator in operators:
        exact = apply(exact, operator, strength)
    return exact.cpu()


def _rounded(exact: torch.Tensor, dtype: torch.dtype, where: str) -> torch.Tensor:
    """The matrix in the dtype in which it is written."""
    after = convert(exact, dtype, f"{where}, edited,")
    if not finite(after):
        raise CheckpointError(f"{where} becomes infinite; use a larger lambda or a smaller strength.")
    return after


def relative_change(before: torch.Tensor, after: torch.Tensor) -> float:
    """‖after − before‖ / ‖before‖ in the Frobenius norm."""
    size = before.double().norm().clamp(min=torch.finfo(torch.float64).tiny)  # a matrix of zeros stays one
    return float((after.double() - before.double()).norm() / size)


def summary(
    delta: Delta, changes: Sequence[Change], pairs: Sequence[tuple[str, str]], moved_shares: Sequence[float]
) -> dict[str, Any]:
    """What an edit did, as plain data."""
    ordered = sorted(change.relative for change in changes)
    return {
        "name": delta.origin.name,
        "lambdas": list(delta.origin.lambdas),
        "strengths": list(delta.origin.strengths),
        "everyday_weight": delta.origin.everyday_weight,
        "rank": delta.operator.rank,
        "width": delta.operator.width,
        "condition": delta.operator.condition,
        "pairs": [list(pair) for pair in pairs],
        "moved": list(moved_shares),
        "changed": [asdict(change) for change in changes],
        "change": {"least": ordered[0], "median": median(ordered), "most": ordered[-1]} if ordered else None,
    }
