"""Pictures of a bench's prompts, as files. They are drawn again from the same seeds, so that results stay small."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from PIL import Image

from timecli.drawing.album import opened, sealed
from timecli.drawing.page import distance
from timecli.drawing.render import render
from timecli.files.writing import make_folder, write_bytes
from timecli.manifests.rows import Row
from timecli.measuring.prompts import Drawn, by_configuration
from timecli.measuring.rivals import Change
from timecli.measuring.schedule import BASE, Job
from timecli.measuring.studio import Studio

WORST = 10
"""Prompts of a configuration that are shown."""
SHOWN = 4
"""Seeds of them that are shown."""
AT_ONCE = 16
"""Prompts whose pictures are in memory at once."""
LONGEST = 60
"""Letters of a name that are in a file's."""


@dataclass(frozen=True)
class Album:
    """A folder of pictures, by model, prompt and seed."""

    folder: Path
    about: str = ""
    """What draws them, beside the model."""

    def path(self, model: str, prompt: str, seed: int) -> Path:
        """Readable, and another one for every model and prompt."""
        digest = hashlib.sha256(f"{model}\n{prompt}".encode()).hexdigest()[:8]
        return self.folder / _plain(model) / f"{_plain(prompt)}-{digest}-{seed}.png"

    def pictures(self, model: str, prompt: str, seeds: Sequence[int]) -> list[Image.Image]:
        """A prompt's pictures, seed by seed; none where one is missing, or not of a run of ours."""
        found = [opened(self.path(model, prompt, seed), self._what(model, prompt, seed)) for seed in seeds]
        pictures = [picture for picture in found if picture is not None]
        return pictures if len(pictures) == len(found) else []

    def _what(self, model: str, prompt: str, seed: int) -> str:
        return json.dumps([self.about, model, prompt, seed])

    def lacks(self, wanted: Mapping[str, Sequence[str]], seeds: Sequence[int]) -> dict[str, list[str]]:
        """The prompts, by model, of which a picture is missing."""
        lacking = {
            model: [prompt for prompt in prompts if not self.pictures(model, prompt, seeds)]
            for model, prompts in wanted.items()
        }
        return {model: prompts for model, prompts in lacking.items() if prompts}

    def draw(
        self,
        wanted: Mapping[str, Sequence[str]],
        made: Studio,
        edits: Callable[[str], Change | None],
        seeds: Sequence[int],
        tick: Callable[[float], None],
    ) -> None:
        """Draw prompts, by model, and keep the pictures."""
        settings = replace(made.settings, seeds=tuple(seeds))
        for model, prompts in wanted.items():
            change = edits(model)
            for first in range(0, len(prompts), AT_ONCE):
                with made.edited(change):
                    drawn = render(made.pipeline, prompts[first : first + AT_ONCE], settings, tick)
                for prompt, images in drawn.items():
                    self._keep(model, prompt, dict(zip(seeds, images, strict=True)))

    def _keep(self, model: str, prompt: str, images: Mapping[int, Image.Image]) -> None:
        for seed, image in images.items():
            path = self.path(model, prompt, seed)
            make_folder(path.parent, 2)
            write_bytes(path, sealed(image, self._what(model, prompt, seed)))


def worst(found: Sequence[Drawn]) -> dict[str, list[Drawn]]:
    """The prompts of every configuration that are farthest from what they should be."""
    return {
        name: sorted(own, key=lambda one: distance(asdict(one) | {"counts": True}), reverse=True)[:WORST]
        for name, own in by_configuration(found).items()
    }


def models(work: Sequence[Job]) -> dict[tuple[str, str], str]:
    """(configuration, edit) -> the model that draws the edit's prompts."""
    return {(job.configuration.name, manifest.name): job.model for job in work for manifest in job.tested}


def row(one: Drawn) -> Row:
    """What the prompt was in its manifest."""
    return Row(one.kind, one.prompt, one.destination)


def wanted(found: Sequence[Drawn], work: Sequence[Job]) -> dict[str, list[str]]:
    """What every model draws to show these prompts before, after, and as they are wanted."""
    by_model: dict[str, dict[str, None]] = {BASE: {}}
    of = models(work)
    for one in found:
        by_model[BASE] |= {prompt: None for prompt in (one.prompt, row(one).oracle) if prompt}
        by_model.setdefault(of[one.configuration, one.edit], {})[one.prompt] = None
    return {model: list(prompts) for model, prompts in by_model.items()}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:LONGEST] or "prompt"
