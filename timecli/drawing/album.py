"""Pictures as they are drawn, kept on the disk until a report is complete, so that a stopped run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from timecli.errors import CheckpointError, TimecliError
from timecli.files.foreign import read
from timecli.files.parts import remove
from timecli.files.writing import write_bytes

FOLDER = ".drawn"
"""Where a report's folder has them."""


@dataclass(frozen=True)
class Album:
    """The pictures of one model, batch by batch."""

    folder: Path

    def batch(self, number: int, count: int) -> list[Image.Image] | None:
        """The pictures of a batch; None where one is missing, or half there after a crash."""
        try:
            contents = [read(self._path(number, i), CheckpointError) for i in range(count)]
            return [Image.open(BytesIO(content)).convert("RGB") for content in contents]
        except (TimecliError, OSError, SyntaxError, ValueError):
            return None

    def keep(self, number: int, pictures: Sequence[Image.Image]) -> None:
        """Write the pictures of a batch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for i, picture in enumerate(pictures):
            write_bytes(self._path(number, i), png(picture))

    def _path(self, number: int, i: int) -> Path:
        return self.folder / f"{number}-{i}.png"


def png(picture: Image.Image) -> bytes:
    """A picture as a file's content; PNG loses nothing."""
    content = BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def close(report: Path) -> None:
    """Remove what is kept beside a report: it is complete, or begins anew."""
    remove(report / FOLDER)
