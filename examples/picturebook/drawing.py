"""How a scene of `world.py` is painted: background, then things or a person, then the style."""

from __future__ import annotations

import random

from PIL import Image, ImageDraw

from pen import CANVAS, INK, Pen
from people import HAIR, SKIN, person
from places import background, stylise
from things import THINGS
from world import COLOURS, SIZE, Scene

# group -> (x, y, size) of every copy, in parts of the picture
ARRANGEMENTS = {
    "one": [(0.5, 0.52, 0.34)],
    "many": [(0.28, 0.36, 0.2), (0.72, 0.36, 0.2), (0.5, 0.72, 0.22)],
    "pack": [(0.25, 0.38, 0.2), (0.5, 0.34, 0.2), (0.75, 0.38, 0.2)],
    "vase": [(0.27, 0.33, 0.2), (0.73, 0.33, 0.2), (0.5, 0.25, 0.2)],
    "bowl": [(0.27, 0.42, 0.19), (0.73, 0.42, 0.19), (0.5, 0.33, 0.19)],
    "field": [
        (0.18, 0.34, 0.14),
        (0.5, 0.3, 0.14),
        (0.82, 0.34, 0.14),
        (0.18, 0.74, 0.16),
        (0.5, 0.7, 0.16),
        (0.82, 0.74, 0.16),
    ],
}


def _container(image: Image.Image, group: str) -> None:
    canvas = ImageDraw.Draw(image)
    at = lambda points: [(x * CANVAS, y * CANVAS) for x, y in points]  # noqa: E731
    if group == "pack":
        canvas.polygon(
            at([(0.1, 0.52), (0.9, 0.52), (0.82, 0.88), (0.18, 0.88)]), fill=(196, 160, 112), outline=INK, width=3
        )
        canvas.line(at([(0.5, 0.52), (0.5, 0.88)]), fill=(230, 210, 170), width=9)
    elif group == "vase":
        canvas.polygon(
            at(
                [
                    (0.36, 0.5),
                    (0.64, 0.5),
                    (0.6, 0.6),
                    (0.72, 0.76),
                    (0.62, 0.94),
                    (0.38, 0.94),
                    (0.28, 0.76),
                    (0.4, 0.6),
                ]
            ),
            fill=(120, 180, 185),
            outline=INK,
            width=3,
        )
    elif group == "bowl":
        canvas.polygon(
            at([(0.08, 0.52), (0.92, 0.52), (0.76, 0.86), (0.24, 0.86)]), fill=(205, 188, 205), outline=INK, width=3
        )


def paint(scene: Scene, rng: random.Random) -> Image.Image:
    """The picture of `scene`, [64, 64] RGB."""
    image = background(scene.place or "table", rng)
    dx, dy, zoom = rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04), rng.uniform(0.93, 1.07)
    if scene.profession:
        pen = Pen(image, (0.48 + dx) * CANVAS, (0.54 + dy / 2) * CANVAS, 0.42 * zoom * CANVAS, INK)
        person(pen, scene, rng.choice(SKIN), rng.choice(HAIR))
    else:
        for x, y, size in ARRANGEMENTS[scene.group]:
            if scene.young:
                size, y = 0.68 * size, y + 0.25 * size
            pen = Pen(
                image, (x + dx) * CANVAS, (y + dy) * CANVAS, size * zoom * CANVAS, COLOURS[scene.colour or "white"]
            )
            arguments = (scene.shape == "square",) if scene.shape else ()
            THINGS[scene.thing](pen, *arguments)
            pen.pattern(scene.pattern or "plain")
        _container(image, scene.group)
    return stylise(image.resize((SIZE, SIZE), Image.Resampling.BOX), scene.style, rng)
