"""A whole verification: every picture before and after, and everything that is said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from timecli.drawing import album, digest, edited, numbers, page, report
from timecli.drawing.judge import Judge
from timecli.drawing.render import Settings, load_pipeline
from timecli.drawing.verify import Images
from timecli.editing import compiling, preview
from timecli.editing.delta import Delta
from timecli.files.writing import make_folder, write_bytes
from timecli.manifests.balances import balance_rows, measured_as_balance
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import Row, everyday_rows, rows
from timecli.models import carried
from timecli.models.checkpoint import Checkpoint
from timecli.text.everyday import Everyday
from timecli.text.readers import TextEncoder


@dataclass(frozen=True)
class Scene:
    """What is drawn with, and how.

    Attributes:
        checkpoint: the unedited model.
        encoder: its text encoder.
        judge: tells two texts apart on a picture; None measures nothing.
        settings: seeds, steps, guidance.
        device: where to draw.
        dtype: of the weights that draw.
        exact: where to calculate in float64.
        copy: a whole edited model with its own text encoder, in place of edits that are put into the unedited one.
        world: the everyday prompts; None cannot tell which of them move most.
    """

    checkpoint: Checkpoint
    encoder: TextEncoder
    judge: Judge | None
    settings: Settings
    device: torch.device
    dtype: torch.dtype
    exact: torch.device
    copy: tuple[Checkpoint, TextEncoder] | None = None
    world: Everyday | None = None


@dataclass(frozen=True)
class Verification:
    """The prompts, their pictures before and after every edit, and what was found, as plain data."""

    table: list[Row]
    before: Images
    after: dict[str, Images]
    found: dict[str, Any]


def table(manifest: Manifest, deltas: Mapping[str, Delta], scene: Scene) -> list[Row]:
    """Every prompt that is looked at: the manifest's own, some everyday ones, and those of them that move most."""
    own, encoder = _own(manifest), scene.encoder
    moving = preview.moving(manifest, scene.checkpoint, encoder, list(deltas.values()), scene.world)
    return [*own, *everyday_rows(compiling.listed(manifest, encoder), own, moving)]


def _own(manifest: Manifest) -> list[Row]:
    """The rows of a manifest, or of every manifest of a joint edit; where a balance is measured, the balance's."""
    parts = manifest.parts or (manifest,)
    if not any(map(measured_as_balance, parts)):
        return rows(manifest)
    found = (balance_rows(part) if measured_as_balance(part) else rows(part, manifest.edits) for part in parts)
    return [row for own in found for row in own]


def verify(
    manifest: Manifest,
    deltas: Mapping[str, Delta],
    scene: Scene,
    folder: Path | None,
    tick: Callable[[float], None],
    doubts: Sequence[str] = (),
) -> Verification:
    """Draw, judge, and measure.

    Args:
        manifest: whose prompts and thresholds.
        deltas: the edits by the names of their columns.
        scene: what is drawn with.
        folder: keeps what is drawn until the report in it is complete; None keeps nothing.
        tick: called with the number of pictures finished since the last call.
        doubts: what is known before anything is drawn of why the numbers may say little.
    """
    prompts = table(manifest, deltas, scene)
    before, after = _drawing(deltas, scene)(prompts, scene.settings, tick, folder)
    shares = {name: edited.forecasts(delta, scene.checkpoint, scene.encoder, prompts) for name, delta in deltas.items()}
    about = {
        "manifest": manifest.name,
        "model": scene.checkpoint.path.name,
        "base": carried.base_hash(scene.checkpoint),
        "judge": digest.of_judge(scene.judge) if scene.judge else None,
        "precision": str(scene.dtype).removeprefix("torch."),
        **numbers.settings(scene.settings, scene.device),
        "edits": {name: numbers.made(delta, scene.checkpoint) for name, delta in deltas.items()},
    }
    found = {**about, **numbers.found(manifest, prompts, scene.judge, before, after, shares)}
    found["doubts"] = [*doubts, *found["doubts"]]
    return Verification(prompts, before, after, found)


def _drawing(deltas: Mapping[str, Delta], scene: Scene) -> Callable[..., tuple[Images, dict[str, Images]]]:
    """How the pictures are drawn: an edited model by all of itself, a delta by the unedited model's other parts."""
    original = partial(load_pipeline, scene.checkpoint, scene.encoder, scene.device, scene.dtype)
    if scene.copy is not None:
        return partial(edited.draw_copy, original, partial(load_pipeline, *scene.copy, scene.device, scene.dtype))
    edits = {name: edited.edited_matrices(delta, scene.checkpoint, scene.exact) for name, delta in deltas.items()}
    return partial(edited.draw, original(), edits)


def save(made: Verification, data: dict[str, Any], folder: Path, replace: bool) -> None:
    """Write the report into a folder; `data` is what was found, as it is printed."""
    shows = report.columns(made.before, made.after)
    files = {"report.html": page.page(data, made.table, shows).encode(), **report.files(made.table, shows, data)}
    make_folder(folder, 0)
    for name, content in files.items():
        write_bytes(folder / name, content, replace)
    album.close(folder)
