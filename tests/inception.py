"""Inception v3 a sixteenth as wide as FID's, with random weights, for what must be true of any width."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from PIL import Image

from timecli.measuring.inception import CLASSES

Conv = tuple[str, int, int, tuple[int, int]]
"""Name, channels in and out, kernel."""
ONE, THREE, FIVE, ROW, COLUMN = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)
STEM = (("1a_3x3", 2, THREE), ("2a_3x3", 2, THREE), ("2b_3x3", 4, THREE), ("3b_1x1", 5, ONE), ("4a_3x3", 12, THREE))
DOUBLE = (("3x3dbl_1", 4, ONE), ("3x3dbl_2", 6, THREE), ("3x3dbl_3", 6, THREE))
WIDE = ([("1x1", 4, ONE)], [("5x5_1", 3, ONE), ("5x5_2", 4, FIVE)], DOUBLE)
THIRD, FOURTH = ("3x3dbl_1", 28, ONE), ("3x3dbl_2", 24, THREE)
SPLIT = (
    [("1x1", 20, ONE)],
    [("3x3_1", 24, ONE), ("3x3_2a", 24, (1, 3))],
    [("3x3_1", 24, ONE), ("3x3_2b", 24, (3, 1))],
    [THIRD, FOURTH, ("3x3dbl_3a", 24, (1, 3))],
    [THIRD, FOURTH, ("3x3dbl_3b", 24, (3, 1))],
)
LAST = (
    [("3x3_1", 12, ONE), ("3x3_2", 20, THREE)],
    [("7x7x3_1", 12, ONE), ("7x7x3_2", 12, ROW), ("7x7x3_3", 12, COLUMN), ("7x7x3_4", 12, THREE)],
)


def long(width: int) -> tuple[list[tuple[str, int, tuple[int, int]]], ...]:
    """A block of rows and columns."""
    kernels = (ONE, COLUMN, ROW, COLUMN, ROW)
    steps = [(f"7x7dbl_{i}", 12 if i == 5 else width, kernel) for i, kernel in enumerate(kernels, 1)]
    return [("1x1", 12, ONE)], [("7x7_1", width, ONE), ("7x7_2", width, ROW), ("7x7_3", 12, COLUMN)], steps


BLOCKS = (
    *(("5b", WIDE, 2), ("5c", WIDE, 4), ("5d", WIDE, 4), ("6a", ([("3x3", 24, THREE)], DOUBLE), 0)),
    *(("6b", long(8), 12), ("6c", long(10), 12), ("6d", long(10), 12), ("6e", long(12), 12)),
    *(("7a", LAST, 0), ("7b", SPLIT, 12), ("7c", SPLIT, 12)),
)
"""Name, paths, and the width of the pooled path; 0 where the block halves the picture and pools without weights."""


def convolutions() -> Iterator[Conv]:
    channels = 3
    for name, width, kernel in STEM:
        yield f"Conv2d_{name}", channels, width, kernel
        channels = width
    for block, paths, pool in BLOCKS:
        ends = 0
        for path in paths:
            into = channels
            for name, width, kernel in path:
                yield f"Mixed_{block}.branch{name}", into, width, kernel
                into = width
            ends += into
        if pool:
            yield f"Mixed_{block}.branch_pool", channels, pool, ONE
        channels = ends + (pool or channels)


def weights() -> dict[str, torch.Tensor]:
    """Every tensor, always the same."""
    random = torch.Generator().manual_seed(0)
    found = {"fc.weight": torch.zeros(CLASSES, 128)}
    for name, into, width, kernel in convolutions():
        size = (2 / (into * kernel[0] * kernel[1])) ** 0.5
        found[f"{name}.conv.weight"] = torch.randn(width, into, *kernel, generator=random) * size
        for part, least in (("bn.weight", 0.5), ("bn.bias", -0.5), ("bn.running_mean", -0.5), ("bn.running_var", 0.5)):
            found[f"{name}.{part}"] = torch.rand(width, generator=random) + least
    return found


def picture(size: tuple[int, int]) -> Image.Image:
    """Width and height; red grows to the right, green downwards, blue is a grid."""
    image = Image.new("RGB", size)
    points = ((x, y) for y in range(size[1]) for x in range(size[0]))
    image.putdata([(x * 3 % 256, y * 2 % 256, 255 * ((x // 8 + y // 8) % 2)) for x, y in points])
    return image
