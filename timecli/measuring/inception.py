"""FID's own eyes: the Inception v3 of Heusel et al. (2017), by plain functions on its tensors.

It is Szegedy et al.'s network (2015) as TensorFlow shipped it on 2015-12-05, and its weights go by the names that
pytorch-fid and torch-fidelity have for them. Both packages publish them as a pickle, which is not read here. Where you
trust it, two commands make the file:

    curl -LO https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth
    python -c "import torch, safetensors.torch as s; s.save_file(torch.load('pt_inception-2015-12-05-6726825d.pth', \
weights_only=True), 'inception.safetensors')"
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image, new
from torch.nn import functional

from timecli.errors import CheckpointError, explained
from timecli.files.quantised import require_floats
from timecli.files.safefile import open_file, require_finite

SIDE, CLASSES, EPSILON = 299, 1008, 0.001
"""Pixels that it looks at, classes that tell it from later Inceptions, and what batch norm adds to variances."""

Paths = tuple[tuple[str, ...], ...]
"""Convolutions one after the other, side by side."""

WIDE: Paths = (("branch1x1",), ("branch5x5_1", "branch5x5_2"), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"))
LONG: Paths = (
    ("branch1x1",),
    ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
    ("branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"),
)
SPLIT: Paths = (
    ("branch1x1",),
    ("branch3x3_1", "branch3x3_2a"),
    ("branch3x3_1", "branch3x3_2b"),
    ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a"),
    ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3b"),
)
HALVES: tuple[Paths, Paths] = (
    (("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")),
    (("branch3x3_1", "branch3x3_2"), ("branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4")),
)
"""Blocks that halve the picture, the last convolution of every path by its stride."""
BLOCKS: tuple[tuple[str, Paths, str], ...] = (
    *((f"Mixed_5{letter}", WIDE, "mean") for letter in "bcd"),
    ("Mixed_6a", HALVES[0], "half"),
    *((f"Mixed_6{letter}", LONG, "mean") for letter in "bcde"),
    ("Mixed_7a", HALVES[1], "half"),
    ("Mixed_7b", SPLIT, "mean"),
    ("Mixed_7c", SPLIT, "max"),
)
"""Name, paths, and how the path beside them pools. "max" is a slip of TensorFlow's, with which FID is defined."""
STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
PARTS = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


@dataclass(frozen=True)
class Inception:
    """The network.

    Attributes:
        weights: float32, by pytorch-fid's names.
        digest: SHA-256 of the file.
    """

    weights: Mapping[str, torch.Tensor]
    digest: str

    @torch.no_grad()
    def seen(self, images: Sequence[Image], device: torch.device) -> torch.Tensor:
        """What it sees in pictures of any size, `[n, 2048]` float32 on the CPU: the mean of its last block."""
        x = torch.cat([resized(image, device) for image in images])
        x = self._conv("Conv2d_1a_3x3", x, stride=2)
        x = self._conv("Conv2d_2a_3x3", x)
        x = functional.max_pool2d(self._conv("Conv2d_2b_3x3", x, same=True), 3, 2)
        x = self._conv("Conv2d_3b_1x1", x)
        x = functional.max_pool2d(self._conv("Conv2d_4a_3x3", x), 3, 2)
        for name, paths, pool in BLOCKS:
            x = self._block(name, paths, pool, x)
        return x.mean((2, 3)).cpu()

    def _block(self, name: str, paths: Paths, pool: str, x: torch.Tensor) -> torch.Tensor:
        found = []
        for path in paths:
            y = x
            for step, part in enumerate(path, 1):
                last = pool == "half" and step == len(path)
                y = self._conv(f"{name}.{part}", y, stride=2 if last else 1, same=not last)
            found.append(y)
        return torch.cat([*found, self._pooled(name, pool, x)], 1)

    def _pooled(self, name: str, pool: str, x: torch.Tensor) -> torch.Tensor:
        if pool == "half":
            return functional.max_pool2d(x, 3, 2)
        if pool == "max":
            y = functional.max_pool2d(x, 3, 1, padding=1)
        else:
            y = functional.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
        return self._conv(f"{name}.branch_pool", y)

    def _conv(self, name: str, x: torch.Tensor, stride: int = 1, same: bool = False) -> torch.Tensor:
        kernel, weight, bias, mean, variance = (self.weights[f"{name}.{part}"].to(x.device) for part in PARTS)
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2) if same else (0, 0)
        y = functional.conv2d(x, kernel, stride=stride, padding=padding)
        return functional.relu(functional.batch_norm(y, mean, variance, weight, bias, eps=EPSILON))


def resized(image: Image, device: torch.device) -> torch.Tensor:
    """A picture as FID's network is given it, `[1, 3, 299, 299]` float32 from -1 to 1.

    Bilinear as TensorFlow 1 had it: no half pixels, and nothing blurred before it is made smaller.
    """
    pixels = torch.from_numpy(np.asarray(image.convert("RGB"), np.float32)).to(device).permute(2, 0, 1)
    rows, columns = (_bilinear(size).to(device) for size in pixels.shape[1:])
    return ((rows @ pixels @ columns.T - 128) / 128)[None]


def _bilinear(size: int) -> torch.Tensor:
    """How much each pixel of a line of `size` counts for each of 299, `[299, size]` float32."""
    places = torch.arange(SIDE) * torch.tensor(size / SIDE)
    low = places.long()
    far = places - low
    found = torch.zeros(SIDE, size)
    found[torch.arange(SIDE), low] += 1 - far
    found[torch.arange(SIDE), (low + 1).clamp(max=size - 1)] += far
    return found


def names() -> Iterator[str]:
    """Every tensor that it is made of."""
    paths = {f"{block}.{part}" for block, paths, _ in BLOCKS for path in paths for part in path}
    pools = {f"{block}.branch_pool" for block, _, pool in BLOCKS if pool != "half"}
    for name in (*STEM, *sorted(paths | pools)):
        yield from (f"{name}.{part}" for part in PARTS)


def load_inception(path: Path, device: torch.device) -> Inception:
    """Read the network's weights from a safetensors file.

    Raises:
        CheckpointError: it is a pickle or damaged, it lacks a tensor, it is another Inception, or it sees NaN.
    """
    file = open_file(path)
    wanted = [*names(), "fc.weight"]
    if lost := [name for name in wanted if name not in file.entries]:
        raise CheckpointError(
            f"{path} has no {lost[0]}; --inception takes the weights that pytorch-fid publishes, as safetensors."
        )
    if (classes := file.entries["fc.weight"]["shape"][0]) != CLASSES:
        raise CheckpointError(
            f"{path} is an Inception of {classes} classes and FID's has {CLASSES}; give the weights that pytorch-fid "
            "publishes, as safetensors."
        )
    require_floats(file, wanted)
    weights = {name: tensor.float() for name, tensor in zip(wanted, file.read(wanted), strict=True)}
    for name, tensor in weights.items():
        require_finite(tensor, f"{path}: {name}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    network = Inception({name: tensor.to(device) for name, tensor in weights.items()}, digest)
    with explained(f"{path} is no Inception that can look at a picture"):
        features = network.seen([new("RGB", (8, 8))], device)
    require_finite(features, f"{path}: what it sees in a black picture")
    return network
