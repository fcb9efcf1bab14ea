"""The story on one page: a manifest is compiled into a delta, a delta is applied to a checkpoint.

Compiling needs the text encoder only; applying needs the cross-attention matrices only. `timecli edit` is the one after
the other, so both ways give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from timecli import __version__, encode
from timecli.checkpoint import Checkpoint
from timecli.delta import Delta, Origin
from timecli.encode import TextEncoder
from timecli.errors import CheckpointError, DeltaError, PromptError
from timecli.layouts import Matrix
from timecli.manifest import Manifest
from timecli.safefile import convert, plain, raw
from timecli.sizes import without_last_layers
from timecli.solve import Operator, apply, solve


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
        base: the `base_hash` of the model before.
        rounding: the share of the edit that the dtype's rounding lost, ‖W' − W (I + D)‖ / ‖W D‖ over all matrices.
    """

    tensors: dict[tuple[Path, str], torch.Tensor]
    changes: tuple[Change, ...]
    base: str
    rounding: float


def read_text_encoder(
    checkpoint: Checkpoint, tokenizer: Path | None, device: torch.device, clip_skip: int = 1
) -> TextEncoder:
    """The checkpoint's own text encoders; the tokenizers from `tokenizer`, the config folder, or CLIP's.

    Args:
        checkpoint: the model.
        tokenizer: a tokenizer folder.
        device: where to encode.
        clip_skip: which layer's states the UNet is given, counted from the last, as A1111 counts: 1 is the last. It is
            diffusers' `clip_skip` plus one.
    """
    if tokenizer is not None and len(checkpoint.texts) > 1:
        raise CheckpointError(f"{checkpoint.path} has two tokenizers; give a folder with both as --config.")
    if clip_skip > 1 and any(text.tower.penultimate for text in checkpoint.texts):
        raise CheckpointError(
            f"{checkpoint.path} is {checkpoint.family.name}, which is given the states before the last layer as it is; "
            "leave clip_skip at 1."
        )
    towers, weights = [], checkpoint.text_encoders()
    for text, tensors in zip(checkpoint.texts, weights, strict=True):
        folder = text.tower.folder
        own = _existing(checkpoint.config, folder.replace("text_encoder", "tokenizer"))
        sizes = _existing(checkpoint.config, f"{folder}/config.json")
        shorter = without_last_layers(tensors, clip_skip - 1, str(checkpoint.path))
        towers.append(encode.load(shorter, text.tower, tokenizer or own, sizes, device, str(checkpoint.path)))
    return TextEncoder(tuple(towers), encode.fingerprint(weights), clip_skip)


def _existing(folder: Path | None, name: str) -> Path | None:
    return folder / name if folder is not None and (folder / name).exists() else None


def problems(manifest: Manifest, encoder: TextEncoder) -> list[str]:
    """Every sentence with which compiling this manifest, or rendering its prompts, would be refused."""
    found: dict[str, None] = {}
    for edit in manifest.edits:
        tests = [*edit.positives, *edit.negatives]
        singles = [
            *encode.augmented(edit.destination, manifest.solve.augment),
            *(t.prompt for t in tests),
            *(t.destination for t in tests),
        ]
        for prompt in singles:
            _try(found, encoder.tokens, prompt)
        for pair in encode.augmented_pairs(edit, manifest.solve.augment):
            _try(found, encoder.alignment, *pair)
    kept = [text for prompt in manifest.preserve.prompts for text in encode.augmented(prompt, manifest.solve.augment)]
    for prompt in (*kept, *manifest.verify.prompts):
        _try(found, encoder.tokens, prompt)
    return list(found)


def too_long(prompts: Iterable[str], encoder: TextEncoder) -> list[str]:
    """Sentences for prompts that the text encoder would cut."""
    found: dict[str, None] = {}
    for prompt in prompts:
        _try(found, encoder.tokens, prompt)
    return list(found)


def _try(found: dict[str, None], function: Any, *arguments: str) -> None:
    try:
        function(*arguments)
    except PromptError as error:
        found[str(error)] = None


def compile_edit(manifest: Manifest, encoder: TextEncoder, device: torch.device) -> Delta:
    """Prompts to a delta.

    Raises:
        PromptError: a prompt is too long, or a pair has nothing in common.
        CheckpointError: the text encoder gives NaN or infinity, or reads another layer than the manifest asks for.
    """
    if encoder.clip_skip != manifest.solve.clip_skip:
        raise CheckpointError(
            f"{manifest.name} has clip_skip {manifest.solve.clip_skip} and the text encoder was read with "
            f"{encoder.clip_skip}; read it with the manifest's."
        )
    operator = solve(_finite(block, device) for block in encode.columns(manifest, encoder))
    if not operator.rank:
        raise PromptError(
            "the text encoder sees no difference between sources and destinations; the edit would do nothing."
        )
    cpu = Operator(operator.left.cpu(), operator.right.cpu(), operator.condition)
    return Delta(cpu, origin(manifest, encoder))


def origin(manifest: Manifest, encoder: TextEncoder) -> Origin:
    """Where a delta of this manifest comes from."""
    return Origin(
        manifest.name,
        manifest.text,
        __version__,
        encoder.fingerprint,
        tuple(manifest.lam(edit) for edit in manifest.edits),
        manifest.solve.matrices,
        manifest.solve.layers,
        tuple((tuple(encoder.tokens(edit.source)), tuple(encoder.tokens(edit.destination))) for edit in manifest.edits),
        encoder.clip_skip,
    )


def _finite(columns: encode.Columns, device: torch.device) -> encode.Columns:
    if not (torch.isfinite(columns.source).all() and torch.isfinite(columns.destination).all()):
        raise CheckpointError(
            "the text encoder turns the prompts into NaN or infinite values; the model is damaged, use another copy."
        )
    return encode.Columns(*(part.to(device) for part in columns))


def moved(manifest: Manifest, encoder: TextEncoder, operator: Operator) -> list[float]:
    """How far each source went to its destination in text space: 0 stayed, 1 arrived.

    1 − ‖c + D c − c*‖ / ‖c − c*‖ over all positions of the pair, without augmentations.
    """
    shares = []
    for edit in manifest.edits:
        rows = encoder.alignment(edit.source, edit.destination)
        source, destination = encoder.embed([edit.source])[0], encoder.embed([edit.destination])[0][rows]
        left = (source + operator.shift(source) - destination).norm() / (source - destination).norm()
        shares.append(1 - left.item())
    return shares


def require_unedited(checkpoint: Checkpoint, way_out: str = "start from the original, or use --stack") -> None:
    """Refuse a model that carries a timecli edit: a second edit on top is not the joint solution of both."""
    if checkpoint.edits:
        names = ", ".join(repr(str(entry["name"])) for entry in checkpoint.edits)
        raise CheckpointError(f"{checkpoint.path} already carries a timecli edit ({names}); {way_out}.")


def require_one(deltas: Sequence[Delta]) -> None:
    """Refuse several deltas at once: one after the other they are not the joint solution of all."""
    if len(deltas) > 1:
        names = " and ".join(repr(delta.origin.name) for delta in deltas)
        raise DeltaError(
            f"{names} were compiled apart, so their order would matter; write their edits into one manifest, or use "
            "--stack to apply them in the order given."
        )


def require_same_encoder(delta: Delta, checkpoint: Checkpoint, fingerprint: str) -> None:
    """Refuse a delta that was compiled for another text encoder than the checkpoint's, which has this fingerprint."""
    if delta.operator.width != checkpoint.width:
        raise DeltaError(
            f"the delta {delta.origin.name!r} has width {delta.operator.width} and {checkpoint.path} takes text of "
            f"width {checkpoint.width}; compile the manifest for this model."
        )
    if fingerprint != delta.origin.encoder:
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
        CheckpointError: wrong width, NaN or infinity, a value that the dtype cannot hold, or no such layer.
    """
    for delta in deltas:
        require_layers(checkpoint, delta.origin.layers)
    _ = checkpoint.edits  # refuses files that carry different ones
    tensors, changes, digest, lost, whole = {}, [], hashlib.sha256(), 0.0, 0.0
    for place, before in checkpoint.projections():
        if not place.twin:
            digest.update(raw(before))
        operators = [delta.operator for delta in deltas if covers(delta.origin, place.matrix)]
        if operators:
            where = f"{place.file.path}: {place.name}"
            exact = _exact(before, where, operators, device, strength)
            after = tensors[place.key] = _rounded(exact, dtype or before.dtype, where)
            changes.append(Change(place.name, tuple(before.shape), relative_change(before, after)))
            lost += float((after.to(exact) - exact).square().sum())
            whole += float((exact - before.to(exact)).square().sum())
    return Edited(tensors, tuple(changes), digest.hexdigest(), (lost / whole) ** 0.5 if whole else 0.0)


def require_layers(checkpoint: Checkpoint, layers: tuple[int, ...] | None) -> None:
    """Refuse layers that the model does not have."""
    last = max(matrix.layer for matrix in checkpoint.family.matrices)
    if layers is not None and max(layers) > last:
        raise CheckpointError(
            f"{checkpoint.path} has no cross-attention layer {max(layers)}; its layers go from 0 to {last}."
        )


def covers(origin: Origin, matrix: Matrix) -> bool:
    """Whether an edit is for this matrix."""
    return matrix.kind in origin.matrices and (origin.layers is None or matrix.layer in origin.layers)


def edit_matrix(
    before: torch.Tensor,
    where: str,
    operators: Sequence[Operator],
    device: torch.device,
    strength: float,
    dtype: torch.dtype | None,
) -> torch.Tensor:
    """One matrix `[out, d]` after some operators, in `dtype` or its own; `where` is how errors call it."""
    return _rounded(_exact(before, where, operators, device, strength), dtype or before.dtype, where)


def _exact(
    before: torch.Tensor, where: str, operators: Sequence[Operator], device: torch.device, strength: float
) -> torch.Tensor:
    """A matrix after some operators, before it is rounded, on the CPU."""
    width = operators[0].width
    if before.ndim != 2 or before.shape[1] != width:
        raise CheckpointError(
            f"{where} is {list(before.shape)} and the text encoder's width is {width}; "
            "its parts come from different models."
        )
    exact = before.to(device)
    for operator in operators:
        exact = apply(exact, operator, strength)
    return exact.cpu()


def _rounded(exact: torch.Tensor, dtype: torch.dtype, where: str) -> torch.Tensor:
    """The matrix in the dtype in which it is written."""
    after = convert(exact, dtype, f"{where}, edited,")
    if not torch.isfinite(plain(after)).all():
        raise CheckpointError(f"{where} becomes infinite; use a larger lambda or a smaller strength.")
    return after


def relative_change(before: torch.Tensor, after: torch.Tensor) -> float:
    """‖after − before‖ / ‖before‖ in the Frobenius norm."""
    size = before.double().norm().clamp(min=torch.finfo(torch.float64).tiny)  # a matrix of zeros stays one
    return float((after.double() - before.double()).norm() / size)


def base_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 over the bytes of the cross-attention matrices: which model an edit was made from."""
    digest = hashlib.sha256()
    for _, tensor in checkpoint.projections(twins=False):
        digest.update(raw(tensor))
    return digest.hexdigest()


def summary(delta: Delta, changes: Sequence[Change], moved_shares: Sequence[float]) -> dict[str, Any]:
    """What an edit did, as plain data."""
    ordered = sorted(change.relative for change in changes)
    return {
        "name": delta.origin.name,
        "lambdas": list(delta.origin.lambdas),
        "rank": delta.operator.rank,
        "width": delta.operator.width,
        "condition": delta.operator.condition,
        "moved": list(moved_shares),
        "changed": [asdict(change) for change in changes],
        "change": {"least": ordered[0], "median": median(ordered), "most": ordered[-1]} if ordered else None,
    }
