"""The maps of a network that read text, wherever they are: in a checkpoint's files, or held by another program."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from timecli.errors import CheckpointError
from timecli.models import layouts
from timecli.models.streams import ENTRY, LDM, POOLED, TEXT, Family, Matrix

if TYPE_CHECKING:
    from pathlib import Path

    import torch


CONV_IN = ("input_blocks.0.0.weight", "conv_in.weight")
"""How the name of a UNet's first convolution ends, in a single file and in a folder."""
NOISE = 4
"""Channels of a UNet that is fed noise alone; one that is fed a picture, too, is another architecture."""


class Spot(Protocol):
    """Where a map is."""

    @property
    def matrix(self) -> Matrix:
        """Which one it is."""

    @property
    def where(self) -> str:
        """How errors call it."""


class Network(Protocol):
    """A network as an edit looks at it."""

    @property
    def channels(self) -> int:
        """How many a UNet takes."""

    @property
    def path(self) -> Path | str:
        """How errors call it."""

    @property
    def family(self) -> Family:
        """What kind of model it is."""

    @property
    def metrics(self) -> dict[Any, torch.Tensor]:
        """What `forecast.metric` has summed."""

    def shape(self, matrix: Matrix) -> tuple[int, ...]:
        """`[out, d]` of a map."""

    def projections(
        self, twins: bool = True, streams: Collection[str] = (TEXT, POOLED)
    ) -> Iterator[tuple[Spot, torch.Tensor]]:
        """Every map of some streams `[out, d]`."""


@dataclass(frozen=True)
class Held:
    """A map that is in memory."""

    matrix: Matrix
    where: str


@dataclass(frozen=True)
class Maps:
    """The maps of a network that another program has loaded.

    Attributes:
        path: how errors call the network.
        family: what kind of model it is.
        weights: by their names in a single file; a map is read when it is needed.
        shapes: by the same names.
        channels: how many a UNet takes.
        metrics: what `forecast.metric` has summed.
    """

    path: str
    family: Family
    weights: Mapping[str, torch.Tensor]
    shapes: layouts.Shapes
    channels: int
    metrics: dict[Any, torch.Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def name(self, matrix: Matrix) -> str:
        """The name under which a map is held."""
        return matrix.names[LDM]

    def shape(self, matrix: Matrix) -> tuple[int, ...]:
        """`[out, d]` of a map."""
        return self.shapes[self.name(matrix)]

    def projections(
        self, twins: bool = True, streams: Collection[str] = (TEXT, POOLED)
    ) -> Iterator[tuple[Held, torch.Tensor]]:
        """Every map of some streams `[out, d]`, as it is held; there are no twins."""
        for matrix in self.family.matrices:
            if matrix.stream in streams:
                name = self.name(matrix)
                yield Held(matrix, f"{self.path}: {name}"), self.weights[name]


def find(weights: Mapping[str, torch.Tensor], shapes: layouts.Shapes, name: str) -> Maps:
    """The maps of a loaded network.

    Args:
        weights: `[out, d]`, by the names that a single file with the network alone has for them, as
            `input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight`.
        shapes: of all its tensors, by which its family is told.
        name: how errors call it.

    Raises:
        CheckpointError: it is no model of a known family.
    """
    family, _, _ = layouts.find(shapes, name)
    return Maps(name, family, weights, shapes, channels(family, shapes))


def channels(family: Family, shapes: layouts.Shapes) -> int:
    """How many channels a UNet takes: 4, with an image to fill in 9, with one to follow 8; 4 for what is no UNet."""
    if family.by_pipeline:
        return NOISE
    name = next((name for end in CONV_IN for name in shapes if name.endswith(end)), None)
    return shapes[name][1] if name and len(shapes[name]) > 1 else NOISE


def require_maps(network: Network, matrices: Collection[str], layers: tuple[int, ...] | None) -> None:
    """Refuse keys, values or layers of which the model has none."""
    if all(matrix.kind == ENTRY for matrix in network.family.matrices):
        if layers is not None or set(matrices) != {"k", "v"}:
            raise CheckpointError(
                f"{network.path} is {network.family.name}, whose text enters by one map and not by the keys and "
                "values of layers; an edit of some of these has nothing to edit here, so leave out solve.matrices and "
                "solve.layers."
            )
        return
    last = max(matrix.layer for matrix in network.family.matrices)
    if layers is not None and max(layers) > last:
        raise CheckpointError(
            f"{network.path} has no cross-attention layer {max(layers)}; its layers go from 0 to {last}."
        )
