"""A compiled edit as a file: the operators' factors and where they came from.

The file is a safetensors file with two float32 tensors, `left` [d, r] and `right` [r, d], and one metadata entry,
`timecli.delta`, a JSON object. W' = W (I + left · right) for every map W that reads text and that the edit covers.
Where a network is given a vector for the whole prompt, too, `pooled.left` and `pooled.right` are for the maps of that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timecli.errors import DeltaError, ManifestError
from timecli.files.foreign import read_json
from timecli.files.safefile import SafeFile, open_file, require_finite
from timecli.manifests import records
from timecli.models import streams

if TYPE_CHECKING:  # headers are read, and refused, before torch is loaded
    from timecli.editing.solve import Operator

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
    clip_skip: int = 1
    """Which layer of the text encoder was read, counted from the last."""
    strengths: tuple[float, ...] = ()
    """How much of each edit was wanted."""
    everyday: str = ""
    """SHA-256 of the list of everyday prompts that were preserved; empty for none."""
    everyday_weight: float = 0.0
    """Their weight, relative to the edits' own prompts."""
    behind_norm: bool = False
    """Whether D is of the text behind a norm of the network, so that the states before it cannot be edited with it."""
    factors: tuple[float, ...] = ()
    """σ of each edit's source and, behind it, of its other wordings, if it has any; none without the everyday world."""
    pooled_factors: tuple[float, ...] = ()
    """The same of the vector for the whole prompt."""
    length: int | None = None
    """How many positions the text was filled up to, where the manifest says it (`solve.length`)."""
    states_of: str = ""
    """Whose text states it was solved with, where another program made them; empty for ours."""


@dataclass(frozen=True)
class Delta:
    """An operator on the text space of every stream that is edited, and their origin."""

    operators: dict[str, Operator]
    origin: Origin

    @property
    def operator(self) -> Operator:
        """That of the text's states."""
        return self.operators[streams.TEXT]


def save_delta(delta: Delta, path: Path, replace: bool = True) -> None:
    """Write the file; reading it back gives equal values, bit for bit."""
    from timecli.files.rewriting import write_tensors

    about = {"format": FORMAT, "condition": delta.operator.condition, **asdict(delta.origin)}
    tensors = {
        streams.of_stream(stream, name): getattr(operator, name).cpu()
        for stream, operator in delta.operators.items()
        for name in FACTORS
    }
    write_tensors(path, tensors, {KEY: json.dumps(about, sort_keys=True)}, replace, follow=True)


def is_delta(file: SafeFile) -> bool:
    """Whether a safetensors file is a delta."""
    return KEY in file.metadata


def read_origin(path: Path) -> Origin:
    """Where the edit in a delta file comes from, of its header alone; raises what `load_delta` raises."""
    _, origin, _ = _opened(path)
    return origin


def is_model(path: Path) -> bool:
    """Whether what may be a model or a delta is a whole model."""
    return not (path.is_file() and is_delta(open_file(path)))


def load_delta(path: Path) -> Delta:
    """Read a delta file.

    Raises:
        CheckpointError: not safetensors, or NaN.
        DeltaError: not a delta, or of a later format.
    """
    from timecli.editing.solve import Operator

    file, origin, condition = _opened(path)
    operators = {}
    for stream in streams.streams_of(file.entries, "left"):
        names = [streams.of_stream(stream, name) for name in FACTORS]
        left, right = file.read(names)
        for name, tensor in zip(names, (left, right), strict=True):
            require_finite(tensor, f"{path}: {name}")
        operators[stream] = Operator(left, right, condition)
    return Delta(operators, origin)


def require_one(origins: Sequence[Origin]) -> None:
    """Refuse several deltas at once: one after the other they are not the joint solution of all."""
    if len(origins) > 1:
        names = " and ".join(repr(origin.name) for origin in origins)
        raise DeltaError(
            f"{names} were compiled apart, so their order would matter; write their edits into one manifest, or use "
            "--stack to apply them in the order given."
        )


def _opened(path: Path) -> tuple[SafeFile, Origin, float]:
    """A delta's header: where the edit comes from, and the condition of its solve."""
    if path.suffix == ".toml" and path.is_file():
        raise DeltaError(
            f"{path} is a manifest, not a delta; `timecli edit` edits with it, and makes its delta with --delta."
        )
    file = open_file(path)
    if not is_delta(file):
        raise DeltaError(
            f"{path} is not a delta file (no {KEY!r} in its metadata); give DELTA first, then MODEL, or make one with "
            "`timecli edit --delta`."
        )
    about = _about(file)
    _check_factors(file)
    condition = about.pop("condition")
    return file, Origin(**about), condition


def _about(file: SafeFile) -> dict[str, Any]:
    """The values in the metadata, each of its kind, without the number of the format."""
    try:
        about = read_json(file.metadata[KEY])
        if isinstance(about, dict) and about.pop("format", None) != FORMAT:
            raise DeltaError(f"{file.path} has another delta format than {FORMAT}; update timecli.")
        needed = [item.name for item in fields(Origin) if item.default is MISSING]
        known = [item.name for item in fields(Origin)]
        return records.table(about, ["condition", *needed], ["condition", *known])
    except (ValueError, ManifestError) as error:
        detail = str(error).rstrip(".")
        raise DeltaError(f"{file.path} is a damaged delta file ({detail}); compile the edit again.") from error


def _check_factors(file: SafeFile) -> None:
    """Refuse factors that are not `left` [d, r] and `right` [r, d] in float32, before they are read."""
    pooled = any(name.startswith(f"{streams.POOLED}.") for name in file.entries)
    for stream in (streams.TEXT, *([streams.POOLED] if pooled else [])):
        one, other = names = [streams.of_stream(stream, name) for name in FACTORS]
        left, right = (file.entries.get(name, {"dtype": "missing", "shape": []}) for name in names)
        wide, high = left["shape"], right["shape"]
        if {left["dtype"], right["dtype"]} != {"F32"} or len(wide) != 2 or 0 in wide or wide[::-1] != high:
            raise DeltaError(
                f"{file.path}: {one} {left['dtype']} {wide} and {other} {right['dtype']} {high} do not fit, they must "
                "be F32 [d, r] and [r, d]; compile the edit again."
            )


def describe(delta: Delta) -> dict[str, Any]:
    """What `timecli inspect` says of a delta."""
    sizes = {"rank": delta.operator.rank, "width": delta.operator.width}
    if streams.POOLED in delta.operators:
        sizes["pooled_rank"] = delta.operators[streams.POOLED].rank
    return {"form": "timecli delta", **sizes, **asdict(delta.origin)}
