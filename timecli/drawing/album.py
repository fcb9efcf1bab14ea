"""Pictures as they are drawn, kept on the disk until a report is complete, so that a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from timecli.drawing import digest
from timecli.drawing.render import Pipeline, Settings
from timecli.errors import CheckpointError, TimecliError
from timecli.files.foreign import read
from timecli.files.parts import remove
from timecli.files.writing import write_bytes

FOLDER = ".drawn"
"""Where a report's folder has them."""


@dataclass(frozen=True)
class Album:
    """The pictures of one model, batch by batch, as PNG, which loses nothing."""

    folder: Path

    def __call__(self, number: int, count: int, draw: Callable[[], list[Image.Image]]) -> list[Image.Image]:
        """The `count` pictures of a batch: those that are there, if all are, else drawn now."""
        paths = [self.folder / f"{number}-{i}.png" for i in range(count)]
        try:
            return [Image.open(BytesIO(read(path, CheckpointError))).convert("RGB") for path in paths]
        except (TimecliError, OSError, SyntaxError, ValueError):  # missing, or half there after a crash
            pass
        made = draw()
        self.folder.mkdir(parents=True, exist_ok=True)
        for path, picture in zip(paths, made, strict=True):
            content = BytesIO()
            picture.save(content, "PNG")
            write_bytes(path, content.getvalue())
        return made


def opened(report: Path, pipeline: Pipeline, prompts: Sequence[str], settings: Settings) -> Album:
    """The album of a model as it is now, for these prompts and settings: anything else has another one.

    Args:
        report: the folder that the report goes to.
        pipeline: what draws.
        prompts: in their order, which decides what is drawn side by side.
        settings: seeds, steps, guidance.
    """
    known = [digest.of_pipeline(pipeline), list(prompts), asdict(settings)]
    name = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]
    return Album(report / FOLDER / name)


def close(report: Path) -> None:
    """Remove what is kept beside a report: it is complete, or begins anew."""
    remove(report / FOLDER)
