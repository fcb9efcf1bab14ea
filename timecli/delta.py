"""A compiled edit as a file: the operator's factors and where they came from.

The file is a safetensors file with two float32 tensors, `left` [d, r] and `right` [r, d], and one metadata entry,
`timecli.delta`, a JSON object. W' = W (I + left · right) for every cross-attention matrix W that the edit covers.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from timecli.errors import DeltaError
from timecli.safefile import SafeFile, open_file, require_finite
from timecli.solve import Operator
from timecli.writing import write_tensors

FACTORS = ("left", "right")
KEY = "timecli.delta"
FORMAT = 1


@dataclass(frozen=True)
class Origin:
    """Where an edit came from and what it covers."""

    name: str
    manifest: str
    """The manifest's text."""
    version: str
    """The timecli that compiled it."""
    encoder: str
    """Fingerprint of the text encoder (`encode.fingerprint`)."""
    lambdas: tuple[float, ...]
    """λ of each pair."""
    matrices: tuple[str, ...]
    layers: tuple[int, ...] | None
    """None for all."""
    tokens: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    """Token ids of each pair, source and destination: what the text encoder read."""


@dataclass(frozen=True)
class Delta:
    """An operator on text space, and its origin."""

    operator: Operator
    origin: Origin


def save_delta(delta: Delta, path: Path, replace: bool = True) -> None:
    """Write the file; reading it back gives equal values, bit for bit."""
    about = {"format": FORMAT, "condition": delta.operator.condition, **asdict(delta.origin)}
    tensors = {name: getattr(delta.operator, name).cpu() for name in FACTORS}
    write_tensors(path, tensors, {KEY: json.dumps(about, sort_keys=True)}, replace)


def is_delta(file: SafeFile) -> bool:
    """Whether a safetensors file is a delta."""
    return KEY in file.metadata


def load_delta(path: Path) -> Delta:
    """Read a delta file.

    Raises:
        CheckpointError: not safetensors, or NaN.
        DeltaError: not a delta, or of a later format.
    """
    file = open_file(path)
    if not is_delta(file):
        raise DeltaError(
            f"{path} is not a delta file (no {KEY!r} in its metadata); make one with `timecli edit --delta`."
        )
    try:
        about: dict[str, Any] = json.loads(file.metadata[KEY])
        if about.pop("format") != FORMAT:
            raise DeltaError(f"{path} has another delta format than {FORMAT}; update timecli.")
        condition = float(about.pop("condition"))
        if not about["matrices"] or not set(about["matrices"]) <= {"k", "v"}:
            raise ValueError(f"matrices {about['matrices']}")
        if about["layers"] is not None and not all(isinstance(layer, int) for layer in about["layers"]):
            raise ValueError(f"layers {about['layers']}")
        origin = Origin(**{key: _frozen(value) for key, value in about.items()})
        tensors = dict(zip(FACTORS, file.read(FACTORS), strict=True))
        if tensors["left"].shape != tensors["right"].T.shape:
            raise DeltaError(
                f"{path}: left {list(tensors['left'].shape)} and right {list(tensors['right'].shape)} do not fit; "
                "compile the edit again."
            )
    except (KeyError, TypeError, ValueError) as error:
        raise DeltaError(f"{path} is a damaged delta file ({error}); compile the edit again.") from error
    for name, tensor in tensors.items():
        require_finite(tensor, f"{path}: {name}")
    return Delta(Operator(tensors["left"], tensors["right"], condition), origin)


def _frozen(value: Any) -> Any:
    """JSON's lists as tuples, at every depth."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def describe(delta: Delta) -> dict[str, Any]:
    """What `timecli inspect` says of a delta."""
    return {"form": "timecli delta", "rank": delta.operator.rank, "width": delta.operator.width, **asdict(delta.origin)}
