"""Steps and guidance that a model's kind is made for: drawn with those of others, a distilled model is drawn wrongly.

What tells the kind is, in this order, the network's own tensors, the folder's configs, and its name or title.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from timecli.files.code import INDEX
from timecli.files.foreign import read_config
from timecli.models import layouts
from timecli.models.checkpoint import Checkpoint

GUIDED = ("guidance_in.in_layer.weight", "guidance_embedder.linear_1.weight")
"""How the name of a network's guidance embedding ends: guidance is a number that it is given, not a second drawing."""
TITLE = "modelspec.title"
WORDS = {
    # what stands in the names of distilled models, and of those whose distillation was undone -> steps, guidance
    r"de[-_ ]?distill|libre[-_ ]?flux|open[-_ ]?flux": (28, 3.5),
    r"schnell": (4, 0.0),
    r"lightning": (4, 0.0),
    r"(?<!de)(?<!de[-_ ])turbo": (4, 0.0),
    r"hyper[-_ ]?(?:sd|xl|flux)|(?<![a-z])hyper(?![a-z])": (8, 0.0),
    r"(?<![a-z])flash(?![a-z])": (8, 0.0),
    r"(?<![a-z])tcd(?![a-z])": (4, 0.0),
    r"(?<![a-z])dmd2?(?![a-z])": (4, 0.0),
    r"(?<![a-z])lcm(?![a-z])": (4, 1.0),
}
STEPS = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])")
"""How names say how many steps a model is for."""
SCHEDULERS = {"LCMScheduler": (4, 1.0), "TCDScheduler": (4, 0.0)}
"""Schedulers of distilled models alone."""
TURBO_SHIFT = 3.0
"""The shift of Z-Image-Turbo's scheduler."""
Z_TURBO = (9, 0.0)
WHOLE = {
    # families of diffusion transformers -> steps and guidance of their pipelines, for what is not distilled
    layouts.SD3.name: (28, 7.0),
    layouts.CHROMA.name: (35, 5.0),
    layouts.KLEIN.name: (50, 4.0),
    layouts.QWEN_IMAGE.name: (50, 4.0),
    layouts.Z_IMAGE.name: (50, 5.0),
}


@dataclass(frozen=True)
class Kind:
    """What a model is drawn with where nobody says otherwise.

    Attributes:
        steps: of denoising.
        guidance: the scale.
        why: what tells it; empty for what most models are drawn with.
        trailing: whether a UNet's steps are to be trailing, as those of distilled models are.
    """

    steps: int = 25
    guidance: float = 7.5
    why: str = ""
    trailing: bool = False

    def said(self, steps: int | None, guidance: float | None) -> tuple[str, ...]:
        """A sentence on what is taken from the kind, where anything is."""
        taken = [f"{self.steps} steps"] if steps is None else []
        taken += [f"guidance {self.guidance:g}"] if guidance is None else []
        return (f"drawn with {' and '.join(taken)}: {self.why}",) if taken and self.why else ()


def is_guided(checkpoint: Checkpoint) -> bool:
    """Whether the network has a guidance embedding."""
    return any(name.endswith(GUIDED) for name in checkpoint.copies[0].entries)


def kind_of(checkpoint: Checkpoint) -> Kind:
    """The kind that a model is, as far as anything tells."""
    family, found = checkpoint.family, _by_config(checkpoint) or _by_name(checkpoint)
    if family.by_pipeline and is_guided(checkpoint):
        steps, guidance = (28, 3.5) if family is layouts.FLUX1 else (50, 4.0)
        why = "its network has a guidance embedding"
        return Kind(found.steps, guidance, f"{why}, and {found.why}") if found else Kind(steps, guidance, why)
    if found is None and family is layouts.FLUX1:
        return Kind(4, 0.0, "its network has no guidance embedding, like that of FLUX.1 schnell")
    if found is None and family.name in WHOLE:
        return Kind(*WHOLE[family.name], f"it is {family.name}, and these are diffusers' own")
    return found or Kind()


def _by_config(checkpoint: Checkpoint) -> Kind | None:
    folder = checkpoint.path if checkpoint.is_folder else checkpoint.config
    if folder is None or not (folder / INDEX).exists():
        return None
    if read_config(folder / INDEX).get("is_distilled") is True:
        return Kind(4, 1.0, f"is_distilled is true in its {INDEX}")
    path = folder / "scheduler" / "scheduler_config.json"
    about = read_config(path) if path.exists() else {}
    name = about.get("_class_name")
    if isinstance(name, str) and name in SCHEDULERS:
        return Kind(*SCHEDULERS[name], f"its scheduler is {name}")
    if checkpoint.family is layouts.Z_IMAGE and about.get("shift") == TURBO_SHIFT:
        return Kind(*Z_TURBO, f"its scheduler's shift is {TURBO_SHIFT:g}, that of Z-Image-Turbo")
    return None


def _by_name(checkpoint: Checkpoint) -> Kind | None:
    path = Path(os.path.abspath(checkpoint.path))
    name = path.name if checkpoint.is_folder else path.stem
    for what, text in (("name", name), ("title", checkpoint.places[0].file.metadata.get(TITLE, ""))):
        for word, (steps, guidance) in WORDS.items():
            if match := re.search(word, text.lower()):
                if checkpoint.family is layouts.Z_IMAGE:
                    steps, guidance = Z_TURBO
                told = STEPS.search(text.lower())
                steps = max(1, int(told[1])) if told else steps
                return Kind(steps, guidance, f"its {what} says {match[0]}", not checkpoint.family.by_pipeline)
    return None
