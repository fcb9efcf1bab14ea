"""An edit taken back: the inverses of the deltas that a model was last edited with, and how near its original comes.

W' = W (I + s D) is undone by another edit of the same size (`solve.inverse`), exactly up to rounding. What rounding the
edited copy has gone through is undone with it, and comes back larger where I + s D squeezes a direction of text space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from timecli.editing.applying import for_matrix
from timecli.editing.delta import Delta
from timecli.editing.solve import apply, inverse
from timecli.errors import CheckpointError, DeltaError
from timecli.files.safefile import plain
from timecli.files.tensors import rounding
from timecli.models import carried
from timecli.models.checkpoint import Checkpoint
from timecli.shown import amount

ARITHMETIC = 3 * torch.finfo(torch.float32).eps
"""How far from exact an edit is multiplied in float32, as measured, relative to the result."""
SAME = 1e-4
"""Relative difference of the norms of two operators that count as one; compiled elsewhere, their last digits differ."""
NEAR, FAR = 0.001, 0.1
"""Share of a model that rounding may make uncertain without a word, and at all."""


def undone(checkpoint: Checkpoint, deltas: Sequence[Delta], averages: bool) -> list[Delta]:
    """The deltas that take back the last edits of a model, in the order in which to apply them.

    Args:
        checkpoint: a model that carries the edits.
        deltas: the edits, in the order in which they were made; the last of them is the model's last.
        averages: whether the model was opened with its moving averages.

    Raises:
        DeltaError: the model's last edits are others, were made to other matrices, are not those of its tensors, or
            cannot be taken back.
    """
    edits = checkpoint.edits
    if False in carried.held(checkpoint)[-len(deltas) :]:
        raise DeltaError(f"{carried.doubt(checkpoint)}; start from the original.")
    last = edits[max(len(edits) - len(deltas), 0) :]
    if len(last) < len(deltas):
        found = f"only {len(last)}" if last else "none"
        wanted = f"{amount(len(deltas), 'edit')} of {checkpoint.path}"
        raise DeltaError(f"{wanted} should be taken back, and it carries {found}.")
    result = []
    for entry, delta in reversed(list(zip(last, deltas, strict=True))):
        _require_made_by(entry, delta, checkpoint)
        _require_same_averages(entry, checkpoint, averages)
        try:
            strength = float(entry["strength"])
            back = {stream: inverse(operator, strength) for stream, operator in delta.operators.items()}
            result.append(replace(delta, operators=back))
        except ValueError as error:
            raise DeltaError(
                f"{delta.origin.name!r} at strength {entry['strength']} cannot be taken back: it leaves nothing of a "
                "direction of text space; start from the original."
            ) from error
    return result


def _require_made_by(entry: Mapping[str, Any], delta: Delta, checkpoint: Checkpoint) -> None:
    """Refuse a delta that did not make the edit of this record. A record without a recipe has no manifest."""
    origin = delta.origin
    same = {
        "name": entry["name"] == origin.name,
        "text encoder": entry.get("encoder") == origin.encoder,
        "lambdas": list(entry.get("lambdas", ())) == list(origin.lambdas),
        "manifest": entry.get("manifest", origin.manifest) == origin.manifest,
        "operator": same_operator(entry, delta),
        "choice of matrices": tuple(entry.get("matrices", origin.matrices)) == origin.matrices,
        "choice of layers": _tuple(entry.get("layers", origin.layers)) == origin.layers,
        "choice of streams": entry.get("streams", [*delta.operators]) == [*delta.operators],
        "strength": "strength" in entry,
    }
    for what, fits in same.items():
        if not fits:
            names = ", ".join(repr(str(one["name"])) for one in checkpoint.edits)
            raise DeltaError(
                f"{checkpoint.path} carries {names}, and the delta {origin.name!r} has another {what} than "
                f"{entry['name']!r} there; give the deltas of its last edits, the last one last."
            )


def same_operator(entry: Mapping[str, Any], delta: Delta) -> bool:
    """Whether the operators are those of a record, as far as norm and sketches tell; a record may have neither."""
    size, told = entry.get("norm"), entry.get("sketch")
    if size is not None and not math.isclose(size, delta.operator.norm, rel_tol=SAME):
        return False
    if told is None:
        return True
    found = [value for operator in delta.operators.values() for value in operator.sketch]
    near = [SAME * operator.norm for operator in delta.operators.values() for _ in operator.sketch]
    return len(told) == len(found) and all(abs(a - b) <= c for a, b, c in zip(told, found, near, strict=True))


def _tuple(layers: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if layers is None else tuple(layers)


def before(checkpoint: Checkpoint, count: int) -> str | None:
    """The `base_hash` of what a model was before its last edits, as its record tells."""
    base: str | None = checkpoint.edits[len(checkpoint.edits) - count].get("base")
    return base


def _require_same_averages(entry: Mapping[str, Any], checkpoint: Checkpoint, averages: bool) -> None:
    """Refuse to take an edit out of moving averages that do not have it, or to leave it in those that do."""
    edited = entry.get("averages", True)
    if not edited and any(place.twin for place in checkpoint.places):
        raise DeltaError(
            f"{entry['name']!r} was made without the moving averages of {checkpoint.path}; use --leave-ema again."
        )
    if edited and not averages:
        raise DeltaError(
            f"{entry['name']!r} was made to the moving averages of {checkpoint.path}, too; leave out --leave-ema."
        )


def require_near(checkpoint: Checkpoint, inverses: Sequence[Delta]) -> float:
    """The model's `blur`. Raises CheckpointError where what comes back is no longer the original."""
    share = blur(checkpoint, inverses)
    if share > FAR:
        raise CheckpointError(
            f"{checkpoint.path} would come back with an error of {share:.0%}, because its edit magnifies the error of "
            "rounding; start from the original."
        )
    return share


def blur(checkpoint: Checkpoint, inverses: Sequence[Delta]) -> float:
    """How far from its original a model comes back: the share of it that rounding in the edited copy makes uncertain.

    Undone with M = (I + s D)⁻¹, the error e of entry (i, j), from rounding and from the arithmetic, is spread over row
    j of M, so that ‖E M‖² is Σ e² ‖M_j‖² in the mean; here against ‖W‖².

    Args:
        checkpoint: the edited model.
        inverses: from `undone`.
    """
    off = whole = 0.0
    for place, tensor in checkpoint.projections():
        operators = for_matrix(inverses, place.matrix)
        if operators and tensor.ndim == 2 and tensor.shape[1] >= operators[0].width:
            weight, back = plain(tensor).double(), torch.eye(tensor.shape[1], dtype=torch.float64)
            for operator in operators:
                weight, back = apply(weight, operator), apply(back, operator)
            errors = rounding(tensor).square() + (ARITHMETIC * plain(tensor).double()).square()
            off += float((errors @ back.square().sum(1)).sum())
            whole += float(weight.square().sum())
    return (off / whole) ** 0.5 if whole else 0.0
