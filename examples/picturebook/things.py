"""The things of the world. Each fills about the square from -1 to 1; what has no `fill` takes the thing's colour."""

from __future__ import annotations

import math
from collections.abc import Callable

from pen import INK, RGB, Pen, eyes

STEM = (95, 115, 55)


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
    eyes(p, -0.5, -0.42, 0.15)
    p.ellipse(-0.5, -0.18, 0.11, 0.08, fill=INK, outline=False)


def cat(p: Pen) -> None:
    p.line((0.45, 0.8), (0.85, 0.6), (0.8, 0), width=0.14)
    p.ellipse(0, 0.45, 0.5, 0.52)
    p.polygon((-0.5, -0.3), (-0.45, -0.95), (-0.1, -0.6))
    p.polygon((0.5, -0.3), (0.45, -0.95), (0.1, -0.6))
    p.ellipse(0, -0.3, 0.5, 0.42)
    eyes(p, 0, -0.35, 0.2)
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
    eyes(p, -0.5, -0.22, 0.17)
    p.ellipse(-0.5, 0.04, 0.19, 0.14, fill=(225, 105, 150))


def fox(p: Pen) -> None:
    p.ellipse(0.72, 0.15, 0.27, 0.55)
    p.ellipse(0.72, -0.3, 0.16, 0.2, fill=(255, 255, 255), outline=False)
    p.polygon((-0.3, 0), (0.3, 0), (0.45, 0.95), (-0.45, 0.95))
    p.polygon((-0.65, -0.35), (-0.6, -1), (-0.15, -0.55))
    p.polygon((0.4, -0.35), (0.35, -1), (-0.1, -0.55))
    p.polygon((-0.7, -0.45), (0.45, -0.45), (-0.12, 0.3))
    eyes(p, -0.12, -0.28, 0.2)
    p.ellipse(-0.12, 0.25, 0.1, 0.08, fill=INK, outline=False)


def cow(p: Pen) -> None:
    _legs(p, 0.3, -0.3, 0.05, 0.45, 0.75)
    p.box(-0.45, -0.3, 0.9, 0.45)
    p.line((0.9, -0.2), (1, 0.4), width=0.07)
    p.line((-0.85, -0.55), (-0.95, -0.9), fill=(120, 110, 90), width=0.12)
    p.line((-0.3, -0.55), (-0.2, -0.9), fill=(120, 110, 90), width=0.12)
    p.box(-0.9, -0.6, -0.28, 0.1)
    p.box(-0.95, -0.08, -0.23, 0.2, fill=(235, 175, 165))
    eyes(p, -0.59, -0.3, 0.16)


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
