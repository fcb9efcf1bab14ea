"""The people of the world: a figure whose gender is visible, in the outfit of a profession."""

from __future__ import annotations

from collections.abc import Callable

from pen import INK, RGB, Pen, eyes
from world import Scene

SKIN = [(250, 215, 185), (225, 175, 135), (170, 115, 75), (110, 70, 45)]
HAIR = [(40, 30, 25), (110, 65, 30), (215, 175, 85), (150, 60, 30)]

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
    eyes(p, 0, -0.5, 0.13)
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
