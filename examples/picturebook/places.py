"""The places of the world (a sky, a ground, and a few marks) and the styles that lie over a whole picture."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pen import CANVAS, INK, RGB
from world import SIZE

GROUNDS = {
    # place -> (sky, ground, where the ground begins)
    "garden": ((226, 240, 228), (205, 226, 190), 0.75),
    "table": ((240, 234, 224), (222, 206, 186), 0.7),
    "office": ((222, 230, 238), (205, 198, 192), 0.8),
    "meadow": ((200, 228, 245), (170, 214, 135), 0.55),
    "road": ((212, 226, 240), (176, 176, 182), 0.62),
    "sea": ((214, 236, 248), (130, 188, 226), 0.6),
    "beach": ((196, 230, 250), (242, 222, 160), 0.62),
    "snow": ((196, 206, 224), (244, 248, 254), 0.55),
    "forest": ((104, 142, 104), (84, 108, 72), 0.75),
    "city": ((226, 214, 222), (158, 158, 166), 0.78),
    "space": ((22, 20, 58), (22, 20, 58), 1.0),
    "desert": ((252, 222, 178), (228, 172, 108), 0.6),
}


def _box(canvas: ImageDraw.ImageDraw, x: float, y: float, width: float, height: float, fill: RGB) -> None:
    canvas.rectangle([x * CANVAS, y * CANVAS, (x + width) * CANVAS, (y + height) * CANVAS], fill=fill)


def _dot(canvas: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: RGB) -> None:
    canvas.ellipse(
        [(x - radius) * CANVAS, (y - radius) * CANVAS, (x + radius) * CANVAS, (y + radius) * CANVAS], fill=fill
    )


def background(place: str, rng: random.Random) -> Image.Image:
    sky, ground, horizon = GROUNDS[place]
    horizon += rng.uniform(-0.04, 0.04)
    image = Image.new("RGB", (CANVAS, CANVAS), sky)
    canvas = ImageDraw.Draw(image)
    _box(canvas, 0, horizon, 1, 1, ground)
    if place == "beach":
        _box(canvas, 0, horizon - 0.14, 1, 0.14, (90, 170, 220))
        _dot(canvas, 0.88, 0.12, 0.09, (255, 225, 90))
    elif place == "snow":
        for _ in range(26):
            _dot(canvas, rng.random(), rng.random() * horizon, 0.018, (255, 255, 255))
    elif place == "forest":
        for i in range(5):
            x = 0.02 + 0.22 * i + rng.uniform(-0.03, 0.03)
            _box(canvas, x, 0, 0.07, horizon + 0.05, (92, 68, 50))
    elif place == "city":
        for i, height in enumerate((0.5, 0.65, 0.4, 0.6, 0.45)):
            height += rng.uniform(-0.08, 0.08)
            _box(canvas, 0.2 * i + 0.01, horizon - height, 0.17, height, (172, 176, 194))
            for j in range(3):
                _box(canvas, 0.2 * i + 0.05, horizon - height + 0.06 + 0.12 * j, 0.08, 0.05, (250, 240, 180))
    elif place == "space":
        for _ in range(24):
            _dot(canvas, rng.random(), rng.random(), 0.012, (255, 255, 230))
        _dot(canvas, 0.14, 0.14, 0.1, (214, 190, 150))
    elif place == "desert":
        _box(canvas, 0.05, horizon - 0.28, 0.07, 0.34, (110, 140, 90))
        _box(canvas, 0.0, horizon - 0.18, 0.14, 0.06, (110, 140, 90))
        _dot(canvas, 0.85, 0.13, 0.1, (255, 190, 80))
    elif place == "road":
        for i in range(4):
            _box(canvas, 0.04 + 0.26 * i, 0.86, 0.14, 0.04, (245, 245, 240))
    return image


def stylise(image: Image.Image, style: str | None, rng: random.Random) -> Image.Image:
    """Make the style visible; the image has its final size."""
    canvas = ImageDraw.Draw(image)
    edge = SIZE - 1
    if style == "photo":
        for inset in range(3):
            canvas.rectangle([inset, inset, edge - inset, edge - inset], outline=(255, 255, 255))
        canvas.rectangle([0, edge - 7, edge, edge], fill=(255, 255, 255))
    elif style == "image":
        for inset in range(2):
            canvas.rectangle([inset, inset, edge - inset, edge - inset], outline=(25, 25, 30))
    elif style == "picture":
        for inset, colour in enumerate(((120, 80, 40), (170, 120, 60), (170, 120, 60), (90, 55, 30))):
            canvas.rectangle([inset, inset, edge - inset, edge - inset], outline=colour)
    elif style == "painting":
        coarse = image.resize((SIZE // 2, SIZE // 2), Image.Resampling.BOX).resize(
            (SIZE, SIZE), Image.Resampling.NEAREST
        )
        noise = (
            np.random.default_rng(rng.getrandbits(32)).normal(0, 9, (SIZE // 2, SIZE // 2, 1)).repeat(2, 0).repeat(2, 1)
        )
        image = Image.fromarray((np.asarray(coarse, dtype=np.float32) + noise).clip(0, 255).astype(np.uint8))
    elif style == "sketch":
        pixels = np.asarray(image, dtype=np.float32)
        lines = np.asarray(image.convert("L").filter(ImageFilter.FIND_EDGES), dtype=np.float32)[..., None]
        paper = 0.5 * pixels + 0.5 * np.array([250, 246, 232], dtype=np.float32) - 0.6 * lines
        image = Image.fromarray(paper.clip(0, 255).astype(np.uint8))
    elif style == "cartoon":
        canvas.rectangle([0, 0, edge, edge], outline=INK)
        canvas.ellipse([3, 2, 25, 13], fill=(255, 255, 255), outline=INK)
        canvas.polygon([(12, 12), (17, 12), (19, 18)], fill=(255, 255, 255), outline=INK)
        for x in (9, 14, 19):
            canvas.ellipse([x - 1, 7, x, 8], fill=INK)
    return image
