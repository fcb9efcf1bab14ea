"""How the scenes of `world.py` are painted, with Pillow, on a canvas three times the final size."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from world import COLOURS, SIZE, Scene

SCALE = 3
CANVAS = SIZE * SCALE
INK = (35, 30, 35)
STEM = (95, 115, 55)
SKIN = [(250, 215, 185), (225, 175, 135), (170, 115, 75), (110, 70, 45)]
HAIR = [(40, 30, 25), (110, 65, 30), (215, 175, 85), (150, 60, 30)]

Point = tuple[float, float]
RGB = tuple[int, int, int]


class Pen:
    """Draws in a thing's own coordinates (x and y from -1 to 1) and remembers where the thing's colour went."""

    def __init__(self, image: Image.Image, x: float, y: float, size: float, colour: RGB):
        self.image = image
        self.canvas = ImageDraw.Draw(image)
        self.mask = Image.new("L", image.size)
        self.inked = ImageDraw.Draw(self.mask)
        self.x, self.y, self.size, self.colour = x, y, size, colour

    def at(self, points: Sequence[Point]) -> list[Point]:
        return [(self.x + px * self.size, self.y + py * self.size) for px, py in points]

    def _shape(self, kind: str, points: Sequence[Point], fill: RGB | None, outline: bool) -> None:
        where = self.at(points)
        flat = where if kind == "polygon" else [where[0], where[1]]
        edge = {"outline": INK, "width": 3} if outline else {}
        getattr(self.canvas, kind)(flat, fill=fill or self.colour, **edge)
        getattr(self.inked, kind)(flat, fill=255 if fill is None else 0)

    def polygon(self, *points: Point, fill: RGB | None = None, outline: bool = True) -> None:
        self._shape("polygon", points, fill, outline)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: RGB | None = None, outline: bool = True) -> None:
        self._shape("ellipse", [(x - rx, y - ry), (x + rx, y + ry)], fill, outline)

    def box(
        self, left: float, top: float, right: float, bottom: float, fill: RGB | None = None, outline: bool = True
    ) -> None:
        self._shape("rectangle", [(left, top), (right, bottom)], fill, outline)

    def line(self, *points: Point, fill: RGB = INK, width: float = 0.08) -> None:
        self.canvas.line(self.at(points), fill=fill, width=max(1, round(width * self.size)), joint="curve")

    def pattern(self, name: str) -> None:
        """Lay stripes or spots over everything that has the thing's colour."""
        if name == "plain":
            return
        marks = Image.new("L", self.image.size)
        draw = ImageDraw.Draw(marks)
        step = 0.42 * self.size
        for i in range(-6, 7):
            if name == "striped":
                x = self.x + i * step
                draw.rectangle([x - 0.17 * step, 0, x + 0.17 * step, CANVAS], fill=255)
                continue
            for j in range(-6, 7):
                x, y, r = self.x + (i + 0.5 * (j % 2)) * step, self.y + j * step, 0.26 * step
                draw.ellipse([x - r, y - r, x + r, y + r], fill=255)
        dark = sum(self.colour) > 480
        self.image.paste(INK if dark else (255, 255, 255), mask=ImageChops.multiply(marks, self.mask))


# ---------------------------------------------------------------------------------------------------------------------
# Things. Each fills about the square from -1 to 1; what has no `fill` takes the thing's colour.


def _stem(p: Pen) -> None:
    p.line((0, 0), (0, 1), fill=STEM, width=0.12)
    p.polygon((0, 0.75), (0.4, 0.45), (0.3, 0.72), fill=STEM, outline=False)


def _petals(p: Pen, count: int, rx: float, reach: float, centre: float, middle: RGB) -> None:
    for i in range(count):
        angle = 2 * math.pi * i / count
        p.ellipse(reach * math.sin(angle), -0.3 - reach * math.cos(angle), rx, rx)
    p.ellipse(0, -0.3, centre, centre, fill=middle)


def rose(p: Pen) -> None:
    _stem(p)
    p.ellipse(0, -0.3, 0.62, 0.62)
    p.line((-0.3, -0.3), (0, -0.6), (0.28, -0.3), (0, -0.05), (-0.1, -0.3), (0.05, -0.4), width=0.07)


def poppy(p: Pen) -> None:
    _stem(p)
    _petals(p, 4, 0.42, 0.34, 0.2, INK)


def tulip(p: Pen) -> None:
    _stem(p)
    p.polygon(
        (-0.5, -0.95),
        (-0.22, -0.55),
        (0, -1),
        (0.22, -0.55),
        (0.5, -0.95),
        (0.5, -0.2),
        (0.2, 0.1),
        (-0.2, 0.1),
        (-0.5, -0.2),
    )


def sunflower(p: Pen) -> None:
    _stem(p)
    _petals(p, 12, 0.2, 0.52, 0.4, (90, 55, 30))


def violet(p: Pen) -> None:
    _stem(p)
    _petals(p, 5, 0.33, 0.36, 0.14, (250, 220, 40))


def daisy(p: Pen) -> None:
    _stem(p)
    _petals(p, 8, 0.23, 0.46, 0.26, (245, 200, 30))


def banana(p: Pen) -> None:
    p.polygon(
        (-0.9, -0.5),
        (-0.7, -0.55),
        (-0.4, 0),
        (0.1, 0.2),
        (0.6, 0.1),
        (0.95, -0.25),
        (0.95, 0),
        (0.7, 0.45),
        (0.1, 0.65),
        (-0.5, 0.4),
        (-0.85, -0.1),
    )


def lemon(p: Pen) -> None:
    p.polygon((-1, 0), (-0.6, -0.2), (-0.6, 0.2), outline=False)
    p.polygon((1, 0), (0.6, -0.2), (0.6, 0.2), outline=False)
    p.ellipse(0, 0, 0.78, 0.55)


def _stalk(p: Pen, top: float) -> None:
    p.line((0, top + 0.2), (0.08, top - 0.15), fill=(90, 60, 30), width=0.1)
    p.polygon((0.08, top), (0.45, top - 0.25), (0.4, top + 0.05), fill=STEM, outline=False)


def apple(p: Pen) -> None:
    p.ellipse(-0.25, 0.1, 0.55, 0.7)
    p.ellipse(0.25, 0.1, 0.55, 0.7)
    p.ellipse(0, 0.15, 0.5, 0.6, outline=False)
    _stalk(p, -0.6)


def strawberry(p: Pen) -> None:
    p.polygon((-0.7, -0.35), (-0.3, -0.6), (0.3, -0.6), (0.7, -0.35), (0.45, 0.35), (0, 0.95), (-0.45, 0.35))
    p.polygon((-0.6, -0.5), (0, -0.9), (0.6, -0.5), (0.25, -0.4), (0, -0.15), (-0.25, -0.4), fill=STEM, outline=False)
    for x, y in ((-0.3, -0.1), (0.3, -0.1), (0, 0.2), (-0.2, 0.45), (0.2, 0.45)):
        p.ellipse(x, y, 0.06, 0.08, fill=(250, 235, 190), outline=False)


def pear(p: Pen) -> None:
    p.ellipse(0, 0.35, 0.62, 0.58)
    p.ellipse(0, -0.3, 0.36, 0.45)
    p.ellipse(0, 0.1, 0.36, 0.5, outline=False)
    _stalk(p, -0.75)


def plum(p: Pen) -> None:
    p.ellipse(0, 0.05, 0.7, 0.75)
    p.line((0.05, -0.65), (-0.15, -0.1), (0, 0.6), width=0.07)
    p.line((0.05, -0.65), (0.15, -0.95), fill=(90, 60, 30), width=0.1)


def _eyes(p: Pen, x: float, y: float, gap: float) -> None:
    for side in (-1, 1):
        p.ellipse(x + side * gap, y, 0.07, 0.08, fill=INK, outline=False)


def _legs(p: Pen, top: float, *xs: float, width: float = 0.1) -> None:
    for x in xs:
        p.box(x - width, top, x + width, 0.95)


def dog(p: Pen) -> None:
    p.line((0.75, 0.1), (0.98, -0.4), width=0.14)
    _legs(p, 0.3, -0.35, 0, 0.35, 0.65)
    p.box(-0.45, -0.05, 0.8, 0.5)
    p.ellipse(-0.5, -0.35, 0.42, 0.38)
    p.ellipse(-0.9, -0.3, 0.13, 0.34)
    p.ellipse(-0.1, -0.3, 0.13, 0.34)
    _eyes(p, -0.5, -0.42, 0.15)
    p.ellipse(-0.5, -0.18, 0.11, 0.08, fill=INK, outline=False)


def cat(p: Pen) -> None:
    p.line((0.45, 0.8), (0.85, 0.6), (0.8, 0), width=0.14)
    p.ellipse(0, 0.45, 0.5, 0.52)
    p.polygon((-0.5, -0.3), (-0.45, -0.95), (-0.1, -0.6))
    p.polygon((0.5, -0.3), (0.45, -0.95), (0.1, -0.6))
    p.ellipse(0, -0.3, 0.5, 0.42)
    _eyes(p, 0, -0.35, 0.2)
    p.line((-0.75, -0.2), (-0.2, -0.15), width=0.04)
    p.line((0.75, -0.2), (0.2, -0.15), width=0.04)


def frog(p: Pen) -> None:
    p.ellipse(-0.7, 0.6, 0.3, 0.25)
    p.ellipse(0.7, 0.6, 0.3, 0.25)
    p.ellipse(0, 0.25, 0.75, 0.55)
    for side in (-1, 1):
        p.ellipse(side * 0.4, -0.35, 0.25, 0.25)
        p.ellipse(side * 0.4, -0.38, 0.1, 0.12, fill=INK, outline=False)
    p.line((-0.4, 0.25), (0, 0.38), (0.4, 0.25), width=0.07)


def pig(p: Pen) -> None:
    _legs(p, 0.4, -0.4, -0.05, 0.3, 0.6, width=0.12)
    p.line((0.8, 0.1), (1, -0.05), (0.9, -0.2), width=0.09)
    p.ellipse(0.15, 0.2, 0.72, 0.5)
    p.polygon((-0.85, -0.3), (-0.8, -0.7), (-0.5, -0.5))
    p.polygon((-0.15, -0.3), (-0.2, -0.7), (-0.45, -0.5))
    p.ellipse(-0.5, -0.1, 0.42, 0.42)
    _eyes(p, -0.5, -0.22, 0.17)
    p.ellipse(-0.5, 0.04, 0.19, 0.14, fill=(225, 105, 150))


def fox(p: Pen) -> None:
    p.ellipse(0.72, 0.15, 0.27, 0.55)
    p.ellipse(0.72, -0.3, 0.16, 0.2, fill=(255, 255, 255), outline=False)
    p.polygon((-0.3, 0), (0.3, 0), (0.45, 0.95), (-0.45, 0.95))
    p.polygon((-0.65, -0.35), (-0.6, -1), (-0.15, -0.55))
    p.polygon((0.4, -0.35), (0.35, -1), (-0.1, -0.55))
    p.polygon((-0.7, -0.45), (0.45, -0.45), (-0.12, 0.3))
    _eyes(p, -0.12, -0.28, 0.2)
    p.ellipse(-0.12, 0.25, 0.1, 0.08, fill=INK, outline=False)


def cow(p: Pen) -> None:
    _legs(p, 0.3, -0.3, 0.05, 0.45, 0.75)
    p.box(-0.45, -0.3, 0.9, 0.45)
    p.line((0.9, -0.2), (1, 0.4), width=0.07)
    p.line((-0.85, -0.55), (-0.95, -0.9), fill=(120, 110, 90), width=0.12)
    p.line((-0.3, -0.55), (-0.2, -0.9), fill=(120, 110, 90), width=0.12)
    p.box(-0.9, -0.6, -0.28, 0.1)
    p.box(-0.95, -0.08, -0.23, 0.2, fill=(235, 175, 165))
    _eyes(p, -0.59, -0.3, 0.16)


GLASS = (190, 225, 240)


def _wheels(p: Pen, *xs: float, radius: float = 0.2) -> None:
    for x in xs:
        p.ellipse(x, 0.6, radius, radius, fill=INK)
        p.ellipse(x, 0.6, radius / 2.5, radius / 2.5, fill=(200, 200, 200), outline=False)


def car(p: Pen) -> None:
    p.polygon((-0.5, 0), (-0.3, -0.5), (0.35, -0.5), (0.6, 0))
    p.polygon((-0.35, 0), (-0.2, -0.38), (0.25, -0.38), (0.42, 0), fill=GLASS)
    p.box(-0.95, 0, 0.95, 0.55)
    _wheels(p, -0.5, 0.5, radius=0.24)


def bus(p: Pen) -> None:
    p.box(-0.98, -0.6, 0.98, 0.55)
    for x in (-0.7, -0.25, 0.2, 0.65):
        p.box(x - 0.16, -0.42, x + 0.16, -0.05, fill=GLASS)
    _wheels(p, -0.55, 0.55)


def truck(p: Pen) -> None:
    p.box(-0.98, -0.65, 0.35, 0.5)
    p.polygon((0.42, 0.5), (0.42, -0.3), (0.75, -0.3), (0.98, 0.1), (0.98, 0.5))
    p.polygon((0.52, 0.08), (0.52, -0.18), (0.7, -0.18), (0.82, 0.08), fill=GLASS)
    _wheels(p, -0.6, -0.1, 0.68)


def train(p: Pen) -> None:
    p.box(-0.65, -0.85, -0.4, -0.2)
    p.ellipse(-0.3, -0.95, 0.22, 0.13, fill=(215, 215, 220), outline=False)
    p.box(-0.9, -0.25, 0.5, 0.4)
    p.box(0.2, -0.75, 0.95, 0.4)
    p.box(0.38, -0.55, 0.77, -0.15, fill=GLASS)
    p.polygon((-0.9, 0.15), (-1, 0.65), (-0.7, 0.65), fill=(90, 90, 95))
    _wheels(p, -0.5, 0, 0.6)


def boat(p: Pen) -> None:
    p.line((0, 0.3), (0, -1), fill=(100, 70, 45), width=0.1)
    p.polygon((0.08, -0.95), (0.08, 0.15), (0.75, 0.15))
    p.polygon((-0.08, -0.7), (-0.08, 0.15), (-0.55, 0.15))
    p.polygon((-0.95, 0.3), (0.95, 0.3), (0.6, 0.8), (-0.6, 0.8))


ROOF = (95, 75, 80)


def house(p: Pen) -> None:
    p.box(0.35, -0.85, 0.6, -0.3, fill=ROOF)
    p.box(-0.75, -0.2, 0.75, 0.9)
    p.polygon((-0.95, -0.2), (0, -0.9), (0.95, -0.2), fill=ROOF)
    p.box(-0.2, 0.3, 0.2, 0.9, fill=(70, 60, 60))
    p.box(-0.6, 0.05, -0.32, 0.35, fill=GLASS)
    p.box(0.32, 0.05, 0.6, 0.35, fill=GLASS)


def barn(p: Pen) -> None:
    p.polygon((-0.9, 0.9), (-0.9, -0.1), (-0.6, -0.65), (0, -0.9), (0.6, -0.65), (0.9, -0.1), (0.9, 0.9))
    p.box(-0.4, 0.15, 0.4, 0.9, fill=(240, 235, 225))
    p.line((-0.4, 0.15), (0.4, 0.9), width=0.07)
    p.line((0.4, 0.15), (-0.4, 0.9), width=0.07)


def castle(p: Pen) -> None:
    p.box(-0.55, -0.2, 0.55, 0.9)
    for x in (-0.7, 0.7):
        p.box(x - 0.25, -0.55, x + 0.25, 0.9)
        for step in (-0.18, 0.18):
            p.box(x + step - 0.1, -0.8, x + step + 0.1, -0.55)
    for x in (-0.25, 0.05, 0.35):
        p.box(x - 0.15, -0.38, x + 0.05, -0.2)
    p.ellipse(0, 0.45, 0.2, 0.25, fill=(70, 60, 60), outline=False)
    p.box(-0.2, 0.45, 0.2, 0.9, fill=(70, 60, 60), outline=False)


def church(p: Pen) -> None:
    p.box(-0.2, -0.1, 0.9, 0.9)
    p.polygon((-0.3, -0.1), (0.35, -0.5), (1, -0.1), fill=ROOF)
    p.box(-0.8, -0.3, -0.2, 0.9)
    p.polygon((-0.85, -0.3), (-0.5, -0.85), (-0.15, -0.3), fill=ROOF)
    p.line((-0.5, -0.8), (-0.5, -1.05), width=0.08)
    p.line((-0.62, -0.95), (-0.38, -0.95), width=0.08)
    p.box(0.2, 0.3, 0.5, 0.9, fill=(70, 60, 60))


def hat(p: Pen) -> None:
    p.box(-0.5, -0.75, 0.5, 0.35)
    p.ellipse(0, 0.4, 1, 0.25)
    p.box(-0.5, 0.02, 0.5, 0.22, fill=(215, 190, 120))


def shirt(p: Pen) -> None:
    p.polygon(
        (-0.3, -0.7),
        (0.3, -0.7),
        (0.95, -0.3),
        (0.75, 0.15),
        (0.5, 0),
        (0.5, 0.85),
        (-0.5, 0.85),
        (-0.5, 0),
        (-0.75, 0.15),
        (-0.95, -0.3),
    )
    p.polygon((-0.3, -0.7), (0.3, -0.7), (0, -0.4), fill=(235, 225, 215))


def dress(p: Pen) -> None:
    p.line((-0.2, -0.6), (-0.25, -0.95), width=0.08)
    p.line((0.2, -0.6), (0.25, -0.95), width=0.08)
    p.polygon((-0.35, -0.65), (0.35, -0.65), (0.25, 0), (0.85, 0.95), (-0.85, 0.95), (-0.25, 0))
    p.box(-0.27, -0.06, 0.27, 0.1, fill=(235, 225, 215))


def boot(p: Pen) -> None:
    p.polygon((-0.45, -0.85), (0.15, -0.85), (0.15, 0.1), (0.8, 0.3), (0.9, 0.7), (-0.45, 0.7))
    p.box(-0.5, 0.68, 0.92, 0.85, fill=(60, 55, 55))
    p.box(-0.5, -0.9, 0.2, -0.65, fill=(235, 225, 215))


def _disc(p: Pen, square: bool, radius: float = 0.85, fill: RGB | None = None) -> None:
    if square:
        p.box(-radius, -radius, radius, radius, fill=fill)
    else:
        p.ellipse(0, 0, radius, radius, fill=fill)


def pizza(p: Pen, square: bool) -> None:
    _disc(p, square, 0.95, (200, 150, 85))
    _disc(p, square, 0.76)
    for x, y in ((-0.35, -0.3), (0.3, -0.4), (0, 0.1), (-0.4, 0.35), (0.4, 0.3)):
        p.ellipse(x, y, 0.14, 0.14, fill=(175, 45, 40))


def cookie(p: Pen, square: bool) -> None:
    _disc(p, square)
    for x, y in ((-0.4, -0.2), (0.1, -0.45), (0.4, 0), (-0.05, 0.15), (-0.35, 0.45), (0.3, 0.5)):
        p.ellipse(x, y, 0.1, 0.1, fill=(50, 30, 25), outline=False)


def clock(p: Pen, square: bool) -> None:
    _disc(p, square, 0.95, (90, 80, 80))
    _disc(p, square, 0.78)
    p.line((0, 0), (0, -0.55), width=0.12)
    p.line((0, 0), (0.4, 0.15), width=0.12)
    p.ellipse(0, 0, 0.1, 0.1, fill=(175, 45, 40), outline=False)


def plate(p: Pen, square: bool) -> None:
    _disc(p, square, 0.95)
    _disc(p, square, 0.58)


THINGS: dict[str, Callable[..., None]] = {
    f.__name__: f
    for f in (
        rose,
        poppy,
        tulip,
        sunflower,
        violet,
        daisy,
        banana,
        lemon,
        apple,
        strawberry,
        pear,
        plum,
        dog,
        cat,
        frog,
        pig,
        fox,
        cow,
        car,
        bus,
        truck,
        train,
        boat,
        house,
        barn,
        castle,
        church,
        hat,
        shirt,
        dress,
        boot,
        pizza,
        cookie,
        clock,
        plate,
    )
}

# ---------------------------------------------------------------------------------------------------------------------
# People

# profession -> (colour of the upper garment, of the lower garment)
OUTFITS = {
    "person": ((120, 175, 160), (95, 100, 125)),
    "CEO": ((45, 50, 75), (45, 50, 75)),
    "farmer": ((200, 70, 60), (75, 105, 165)),
    "carpenter": ((235, 165, 80), (115, 85, 60)),
    "sheriff": ((205, 175, 125), (125, 90, 60)),
    "lawyer": ((35, 30, 35), (35, 30, 35)),
    "cook": ((245, 245, 245), (120, 120, 130)),
    "baker": ((225, 205, 170), (225, 205, 170)),
    "hairdresser": ((230, 110, 170), (90, 60, 110)),
    "teacher": ((70, 140, 90), (105, 90, 80)),
    "librarian": ((130, 80, 165), (80, 75, 95)),
    "nurse": ((235, 248, 250), (170, 215, 225)),
    "housekeeper": ((90, 120, 170), (90, 120, 170)),
}


def person(p: Pen, scene: Scene, skin: RGB, hair: RGB) -> None:
    """A standing figure: a woman has long hair and a skirt, a man has a beard and trousers."""
    woman = scene.gender == "female"
    upper, lower = OUTFITS[scene.profession]
    if woman:
        p.ellipse(0, -0.5, 0.48, 0.42, fill=hair)
        p.box(-0.48, -0.5, 0.48, 0.05, fill=hair)
    _arms(p, scene, upper, skin)
    if woman:
        p.polygon((-0.22, 0.35), (0.22, 0.35), (0.6, 0.85), (-0.6, 0.85), fill=lower)
        _limbs(p, skin, 0.85, 0.15)
    else:
        _limbs(p, lower, 0.35, 0.19)
    p.polygon((-0.34, -0.1), (0.34, -0.1), (0.26, 0.42), (-0.26, 0.42), fill=upper)
    p.ellipse(0, -0.48, 0.33, 0.36, fill=skin)
    if woman:
        p.polygon((-0.34, -0.48), (-0.25, -0.82), (0.25, -0.82), (0.34, -0.48), (0, -0.68), fill=hair, outline=False)
    else:
        p.polygon(
            (-0.32, -0.4),
            (-0.22, -0.22),
            (0.22, -0.22),
            (0.32, -0.4),
            (0.26, -0.14),
            (0, -0.06),
            (-0.26, -0.14),
            fill=hair,
        )
        p.polygon((-0.33, -0.55), (-0.3, -0.8), (0, -0.9), (0.3, -0.8), (0.33, -0.55), (0, -0.72), fill=hair)
    _eyes(p, 0, -0.5, 0.13)
    if scene.action == "laughing":
        p.ellipse(0, -0.28, 0.16, 0.11, fill=(190, 30, 50))
    else:
        p.line((-0.1, -0.28), (0.1, -0.28), fill=(150, 50, 60), width=0.06)
    if scene.profession != "person":
        TOOLS[scene.profession](p)


def _limbs(p: Pen, fill: RGB, top: float, offset: float) -> None:
    for side in (-1, 1):
        p.box(side * offset - 0.1, top, side * offset + 0.1, 0.98, fill=fill)


def _arms(p: Pen, scene: Scene, sleeve: RGB, skin: RGB) -> None:
    for side in (-1, 1):
        hand = (side * 0.72, -0.3) if scene.action == "working" else (side * 0.55, 0.4)
        p.line((side * 0.28, 0), hand, fill=INK, width=0.26)
        p.line((side * 0.28, 0), hand, fill=sleeve, width=0.18)
        p.ellipse(*hand, 0.1, 0.1, fill=skin)


def _ceo(p: Pen) -> None:
    p.polygon((-0.1, -0.1), (0.1, -0.1), (0.06, 0.3), (-0.06, 0.3), fill=(200, 30, 40), outline=False)
    p.box(0.45, 0.4, 0.95, 0.75, fill=(110, 70, 40))


def _farmer(p: Pen) -> None:
    p.ellipse(0, -0.75, 0.62, 0.13, fill=(225, 185, 90))
    p.box(-0.28, -1, 0.28, -0.75, fill=(225, 185, 90))
    p.box(-0.2, 0.05, 0.2, 0.4, fill=(75, 105, 165))


def _carpenter(p: Pen) -> None:
    p.line((0.65, 0.75), (0.65, 0), fill=(150, 105, 60), width=0.12)
    p.box(0.45, -0.12, 0.9, 0.1, fill=(120, 120, 130))
    p.box(-0.2, 0.1, 0.2, 0.6, fill=(120, 80, 50))


def _sheriff(p: Pen) -> None:
    p.ellipse(0, -0.78, 0.62, 0.11, fill=(120, 75, 40))
    p.polygon((-0.3, -0.78), (-0.24, -1.05), (0, -0.97), (0.24, -1.05), (0.3, -0.78), fill=(120, 75, 40))
    p.polygon((0.12, -0.02), (0.2, 0.14), (0.12, 0.28), (0.03, 0.14), fill=(250, 215, 40))


def _lawyer(p: Pen) -> None:
    p.polygon((-0.15, -0.1), (0.15, -0.1), (0.1, 0.28), (-0.1, 0.28), fill=(250, 250, 250))
    p.line((0.75, 0.7), (0.75, 0.05), fill=(190, 150, 40), width=0.08)
    p.line((0.5, 0.1), (1, 0.1), fill=(190, 150, 40), width=0.08)
    p.ellipse(0.52, 0.3, 0.14, 0.08, fill=(190, 150, 40))
    p.ellipse(0.98, 0.3, 0.14, 0.08, fill=(190, 150, 40))


def _cook(p: Pen) -> None:
    p.box(-0.25, -1, 0.25, -0.75, fill=(252, 252, 252))
    p.ellipse(0, -1.02, 0.36, 0.16, fill=(252, 252, 252))
    p.line((-0.55, 0.4), (-0.8, 0.6), width=0.1)
    p.ellipse(-0.82, 0.62, 0.2, 0.14, fill=(70, 70, 75))


def _baker(p: Pen) -> None:
    p.ellipse(0, -0.85, 0.38, 0.14, fill=(252, 252, 252))
    p.ellipse(0, 0.3, 0.42, 0.15, fill=(200, 140, 70))
    for x in (-0.2, 0, 0.2):
        p.line((x - 0.05, 0.36), (x + 0.05, 0.24), fill=(130, 80, 35), width=0.06)


def _hairdresser(p: Pen) -> None:
    p.line((0.5, 0.45), (0.95, -0.05), fill=(150, 150, 160), width=0.1)
    p.line((0.9, 0.45), (0.5, -0.05), fill=(150, 150, 160), width=0.1)
    p.ellipse(0.48, 0.52, 0.11, 0.11, fill=(220, 60, 60))
    p.ellipse(0.92, 0.52, 0.11, 0.11, fill=(220, 60, 60))


def _teacher(p: Pen) -> None:
    p.box(0.42, -0.7, 1.15, 0, fill=(45, 75, 60))
    p.line((0.55, -0.5), (1, -0.5), fill=(240, 240, 240), width=0.07)
    p.line((0.55, -0.25), (0.9, -0.25), fill=(240, 240, 240), width=0.07)


def _librarian(p: Pen) -> None:
    for i, colour in enumerate(((190, 50, 50), (60, 110, 180), (230, 190, 60))):
        p.box(-0.95, 0.2 + 0.2 * i, -0.4, 0.38 + 0.2 * i, fill=colour)
    p.line((-0.22, -0.5), (0.22, -0.5), width=0.05)


def _nurse(p: Pen) -> None:
    p.polygon((-0.3, -0.78), (-0.36, -1), (0.36, -1), (0.3, -0.78), fill=(252, 252, 252))
    p.box(-0.05, -0.98, 0.05, -0.8, fill=(220, 30, 40), outline=False)
    p.box(-0.12, -0.93, 0.12, -0.85, fill=(220, 30, 40), outline=False)
    p.box(-0.05, 0.02, 0.05, 0.3, fill=(220, 30, 40), outline=False)
    p.box(-0.14, 0.12, 0.14, 0.2, fill=(220, 30, 40), outline=False)


def _housekeeper(p: Pen) -> None:
    p.line((-0.6, 0.75), (-0.6, -0.7), fill=(150, 105, 60), width=0.1)
    p.polygon((-0.7, 0.6), (-0.5, 0.6), (-0.38, 0.98), (-0.82, 0.98), fill=(225, 185, 90))
    p.polygon((-0.18, 0.05), (0.18, 0.05), (0.28, 0.7), (-0.28, 0.7), fill=(250, 250, 250))


TOOLS: dict[str, Callable[[Pen], None]] = {
    "CEO": _ceo,
    "farmer": _farmer,
    "carpenter": _carpenter,
    "sheriff": _sheriff,
    "lawyer": _lawyer,
    "cook": _cook,
    "baker": _baker,
    "hairdresser": _hairdresser,
    "teacher": _teacher,
    "librarian": _librarian,
    "nurse": _nurse,
    "housekeeper": _housekeeper,
}

# ---------------------------------------------------------------------------------------------------------------------
# Places: a sky, a ground, and a few marks

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


# ---------------------------------------------------------------------------------------------------------------------
# Styles


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


# ---------------------------------------------------------------------------------------------------------------------

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
