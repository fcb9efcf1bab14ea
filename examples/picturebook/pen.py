"""What the pictures are drawn with."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw

from world import SIZE

SCALE = 3
CANVAS = SIZE * SCALE
"""Side of the canvas, in pixels; the finished picture is a third of it."""
INK = (35, 30, 35)

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


def eyes(p: Pen, x: float, y: float, gap: float) -> None:
    for side in (-1, 1):
        p.ellipse(x + side * gap, y, 0.07, 0.08, fill=INK, outline=False)
