"""Two models: which tensors differ, and whether one edit of text space explains it.

An edit in closed form, by this tool or by another, is W' = W (I + D) with one D for all matrices. D is then the least
squares solution of W D = W' − W over all of them. Each column of D has as many unknowns as the text is wide: where the
matrices that changed have fewer rows than that, some D explains any change, and nothing can be said. Nor can it where
rounding to the models' dtype is as large as the change. A pooled vector is read by one map, which is judged together
with the text's; of its D no more is found than what that map sees.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch

from timecli import __version__
from timecli.editing.applying import covers, relative_change
from timecli.editing.delta import Delta, Origin
from timecli.editing.solve import Operator, factored
from timecli.errors import CheckpointError
from timecli.files.safefile import SafeFile, open_file
from timecli.files.tensors import raw, rounding
from timecli.models import streams
from timecli.models.checkpoint import Checkpoint, Place
from timecli.shipping.export import truncated
from timecli.text import fingerprints

PACKED = ("torch.float4",)
"""How torch calls dtypes of several numbers in a byte, which it keeps and does not compare."""
FIT = 0.02
"""Largest share of the change that may stay unexplained, beside what rounding to the models' dtype explains."""
FIT_OF_ONE = 0.05
"""The same in each single matrix, so that a strange change in one does not hide behind an edit of all."""
ROOM = 1.1
"""Rows for each unknown from which on noise would be seen: of noise, D leaves √(1 − 1/1.1) = 30 % unexplained."""
SLACK = 1.5
"""How much larger than in the mean rounding may be."""
HIDDEN = 0.2
"""Share of the change that rounding may be; a larger one hides what else there is."""


@dataclass(frozen=True)
class Difference:
    """A tensor that is not the same in both: `relative` is ‖B − A‖ / ‖A‖, or None where they cannot be subtracted."""

    name: str
    what: str
    relative: float | None


@dataclass(frozen=True)
class Share:
    """Of one matrix, or of all: ‖W D − ΔW‖², ‖ΔW‖², and how much of it rounding is in the mean."""

    name: str
    rest: float
    change: float
    rounding: float

    @property
    def unexplained(self) -> float:
        """The share of the change that D leaves unexplained."""
        return _root(self.rest, self.change)

    def limit(self, fit: float) -> float:
        """The share that may stay unexplained."""
        return math.hypot(fit, SLACK * _root(self.rounding, self.change))


def _root(part: float, whole: float) -> float:
    return math.sqrt(part / whole) if whole else math.inf if part else 0.0


@dataclass(frozen=True)
class Recovered:
    """The operators that explain the change best, one for each stream of text that is read otherwise.

    Attributes:
        delta: the operators.
        whole: what they explain, over all matrices.
        shares: the same in each matrix.
        rows: how many rows the matrices of the first stream have together.
    """

    delta: Delta
    whole: Share
    shares: tuple[Share, ...]
    rows: int

    @property
    def worst(self) -> Share:
        """The matrix of which the largest share stays unexplained."""
        return max(self.shares, key=lambda share: share.unexplained)

    @property
    def fits(self) -> bool | None:
        """Whether it is an edit of text space; None where that cannot be told."""
        if self.too_few_rows:
            return None
        if self.whole.unexplained > self.whole.limit(FIT):
            return False
        if any(share.unexplained > share.limit(FIT_OF_ONE) for share in self.shares):
            return False
        return None if self.doubt else True

    @property
    def too_few_rows(self) -> bool:
        """Whether some D would explain any change."""
        return self.rows < ROOM * self.width

    @property
    def width(self) -> int:
        """The d of the first stream."""
        return next(iter(self.delta.operators.values())).width

    @property
    def doubt(self) -> str | None:
        """Why it cannot be told, if it fits, whether it is an edit; None where it can."""
        if self.too_few_rows:
            return f"the matrices that differ have {self.rows} rows, too few for the {self.width} unknowns of an edit"
        hidden = _root(self.whole.rounding, self.whole.change)
        return f"rounding to their dtype is {hidden:.0%} of the change and hides the rest" if hidden > HIDDEN else None


def by_maps(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two models have no names in common but those of the table: a file and a folder, or maps alone."""
    return one.is_folder != other.is_folder or _tensors(one.path).keys().isdisjoint(_tensors(other.path))


def differences(one: Checkpoint, other: Checkpoint) -> list[Difference]:
    """Every tensor that differs, in the order of the first; of those with other names, every map that reads text."""
    if by_maps(one, other):
        return list(filter(None, (_different(place.name, a, b) for place, a, b in _pairs(one, other))))
    left, right = _tensors(one.path), _tensors(other.path)
    found = [Difference(name, "only in the first", None) for name in left if name not in right]
    found += [Difference(name, "only in the second", None) for name in right if name not in left]
    shared = [name for name in left if name in right]
    for _, group in groupby(shared, key=lambda name: (left[name][0].path, right[name][0].path)):
        names = list(group)
        before, after = (side[names[0]][0].read([side[name][1] for name in names]) for side in (left, right))
        found += filter(None, map(_different, names, before, after))
    return found


def _different(name: str, a: torch.Tensor, b: torch.Tensor) -> Difference | None:
    if a.shape != b.shape:
        return Difference(name, f"{list(a.shape)} became {list(b.shape)}", None)
    if str(a.dtype).startswith(PACKED) or str(b.dtype).startswith(PACKED):  # with which torch does not calculate
        return None if a.dtype == b.dtype and raw(a) == raw(b) else Difference(name, _change(a, b), None)
    if a.dtype != b.dtype or not torch.equal(a, b):
        return Difference(name, _change(a, b), relative_change(a, b))
    return None


def _tensors(path: Path) -> dict[str, tuple[SafeFile, str]]:
    """Where every tensor is; in a folder, the file's name stands before the tensor's."""
    if not path.is_dir():
        file = open_file(path)
        return {name: (file, name) for name in file.entries}
    files = {file: open_file(file) for file in sorted(path.rglob("*.safetensors"))}
    return {f"{p.relative_to(path)}: {name}": (file, name) for p, file in files.items() for name in file.entries}


def _change(a: torch.Tensor, b: torch.Tensor) -> str:
    return "values" if a.dtype == b.dtype else f"{a.dtype} became {b.dtype}".replace("torch.", "")


def recover(one: Checkpoint, other: Checkpoint, name: str) -> Recovered | None:
    """The edit of text space that makes `other` of `one`; None where no map that reads text differs.

    Raises:
        CheckpointError: they are models of two kinds, or damaged.
    """
    if one.family != other.family or one.width != other.width:
        raise CheckpointError(
            f"{one.path} is {one.family.name} of width {one.width} and {other.path} {other.family.name} of width "
            f"{other.width}; only models of one kind can be compared."
        )
    changed = [place for place, before, after in _pairs(one, other) if not torch.equal(before.double(), after.double())]
    if not changed:
        return None
    fingerprint = fingerprints.fingerprint(one.text_encoders()) if one.texts else ""
    normed = one.family.norm is not None
    origin = Origin(name, "", __version__, fingerprint, (), *_covered(one, changed), (), behind_norm=normed)
    operators: dict[str, Operator] = {}
    every: list[Share] = []
    rows: list[int] = []
    for stream in one.family.streams:
        if any(place.matrix.stream == stream for place in changed):
            full, count = _explained(one, other, origin, stream)
            shares = list(_shares(one, other, full.left.double() @ full.right.double(), origin, stream))
            operators[stream], _ = truncated(full, None, max(_sum(shares).unexplained, 1e-6))
            every += shares
            rows.append(count)
    return Recovered(Delta(operators, origin), _sum(every), tuple(every), rows[0])


def _covered(one: Checkpoint, changed: Iterable[Place]) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """The kinds and layers of cross-attention that an edit covers which changed these; all where it is of none."""
    cross = [place.matrix for place in changed if place.matrix.kind != streams.ENTRY]
    kinds, layers = sorted({matrix.kind for matrix in cross}), sorted({matrix.layer for matrix in cross})
    whole = len(layers) in (0, 1 + max(matrix.layer for matrix in one.family.matrices))
    return tuple(kinds or "kv"), None if whole else tuple(layers)


def _explained(one: Checkpoint, other: Checkpoint, origin: Origin, stream: str) -> tuple[Operator, int]:
    """The operator of one stream that explains its change best, and how many rows its matrices have."""
    rows, gram, moved, width = 0, None, None, one.width_of(stream)
    for place, before, after in _pairs(one, other, (stream,)):
        if covers(origin, place.matrix):
            before, change = before.double(), (after.double() - before.double())[:, :width]
            before = before[:, :width]
            rows += len(before)
            gram = before.T @ before if gram is None else gram + before.T @ before
            moved = before.T @ change if moved is None else moved + before.T @ change
    assert gram is not None and moved is not None
    if not (torch.isfinite(gram).all() and torch.isfinite(moved).all()):
        raise CheckpointError(
            f"{one.path} and {other.path} have numbers too large to multiply; the models are damaged, use other copies."
        )
    return factored(torch.linalg.lstsq(gram, moved).solution), rows


def _sum(shares: Iterable[Share]) -> Share:
    """Of several matrices together."""
    parts = list(shares)
    return Share("", *(sum(getattr(share, part) for share in parts) for part in ("rest", "change", "rounding")))


def _pairs(
    one: Checkpoint, other: Checkpoint, streams: Collection[str] = (streams.TEXT, streams.POOLED)
) -> Iterator[tuple[Place, torch.Tensor, torch.Tensor]]:
    """Each matrix before and after, in its stored dtypes."""
    pairs = zip(
        one.projections(twins=False, streams=streams), other.projections(twins=False, streams=streams), strict=True
    )
    for (place, before), (_, after) in pairs:
        if before.shape != after.shape:
            raise CheckpointError(
                f"{place.name} is {list(before.shape)} in {one.path} and {list(after.shape)} in {other.path}; only "
                "models of one kind can be compared."
            )
        yield place, before, after


def _shares(one: Checkpoint, other: Checkpoint, d: torch.Tensor, origin: Origin, stream: str) -> Iterator[Share]:
    """What D explains in each matrix."""
    for place, before, after in _pairs(one, other, (stream,)):
        if covers(origin, place.matrix):
            change = after.double() - before.double()
            rest = torch.cat([before[:, : len(d)].double() @ d, torch.zeros_like(change)[:, len(d) :]], dim=1) - change
            # W' is rounded; of two dtypes W may be, too.
            off = float(rounding(after).square().sum())
            off += float(rounding(before).square().sum()) if before.dtype != after.dtype else 0.0
            yield Share(place.name, float(rest.square().sum()), float(change.square().sum()), off)
