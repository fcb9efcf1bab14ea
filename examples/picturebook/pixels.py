"""The rule that reads pixels: the world is ours, so what a picture shows can be measured without a judge."""

from __future__ import annotations

import random

import numpy as np

from world import Request, draw, likely


def templates(request: Request, draws: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance [64, 64, 3] of pictures of the likely scene of `request`, values in 0..1."""
    scene = likely(request)
    pictures = np.stack([np.asarray(draw(scene, random.Random(seed)), dtype=np.float64) for seed in range(draws)]) / 255
    return pictures.mean(0), pictures.var(0)


def closest(images: np.ndarray, requests: list[Request]) -> np.ndarray:
    """Which request each picture shows, by its pixels: nearest mean picture, weighed by how well a pixel tells.

    Args:
        images: [n, 64, 64, 3] uint8.
        requests: candidates that differ in one attribute, such as the eleven colours of a rose.

    Returns:
        [n] indices into `requests`. A pixel's weight is the variance between the candidates' mean pictures over the
        variance within them (Fisher's criterion), so that only what the attribute changes is looked at.
    """
    means, within = (np.stack(parts) for parts in zip(*(templates(request) for request in requests), strict=True))
    weight = means.var(0) / (within.mean(0) + 1e-3)
    difference = images[:, None].astype(np.float64) / 255 - means[None]
    return (difference**2 * weight).sum((2, 3, 4)).argmin(1)
