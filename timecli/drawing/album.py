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
from timecli.files.seals import SIZE, Sealer, sealer
from timecli.files.writing import make_folder, write_bytes
from timecli.text import worlds

FOLDER = ".drawn"
"""Where a report's folder has them."""


@dataclass(frozen=True)
class Album:
    """The pictures of one model, batch by batch. The name of the folder says what draws them."""

    folder: Path

    def batch(self, number: int, count: int) -> list[Image.Image] | None:
        """The pictures of a batch; None where one is missing, half there after a crash, or not of a run of ours."""
        found = [opened(*self._named(number, i)) for i in range(count)]
        pictures = [picture for picture in found if picture is not None]
        return pictures if len(pictures) == count else None

    def keep(self, number: int, pictures: Sequence[Image.Image]) -> None:
        """Write the pictures of a batch."""
        make_folder(self.folder, 2)
        for i, picture in enumerate(pictures):
            path, what = self._named(number, i)
            write_bytes(path, sealed(picture, what))

    def _named(self, number: int, i: int) -> tuple[Path, str]:
        """A picture's file, and what its seal is for."""
        name = f"{number}-{i}.png"
        return self.folder / name, f"{self.folder.name}/{name}"


def mine() -> Sealer:
    """What the user's own runs are told by."""
    return sealer(worlds.cache())


def sealed(picture: Image.Image, what: str) -> bytes:
    """A picture as a file's content, with a seal behind it, which programs that show it do not read."""
    content = png(picture)
    return content + mine().seal(what, content)


def opened(path: Path, what: str) -> Image.Image | None:
    """The picture that a run of the same user has kept in a file; None for none, and nothing else is decoded."""
    try:
        found = read(path, CheckpointError)
    except TimecliError:
        return None
    content, seal = found[:-SIZE], found[-SIZE:]
    return Image.open(BytesIO(content)).convert("RGB") if mine().holds(what, content, seal) else None


def png(picture: Image.Image) -> bytes:
    """A picture as a file's content; PNG loses nothing."""
    content = BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def close(report: Path) -> None:
    """Remove what is kept beside a report: it is complete, or begins anew."""
    remove(report / FOLDER)
