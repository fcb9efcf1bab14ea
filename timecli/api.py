"""The Python interface: from a manifest and a model to a forecast, an edited file and a report.

Mistakes raise `timecli.errors.TimecliError` with one sentence for people. Nothing here prints or exits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timecli.opened import Loaded, Model, Pathlike

if TYPE_CHECKING:
    import torch

    from timecli.editing.applying import Change
    from timecli.editing.delta import Delta
    from timecli.editing.preview import Preview
    from timecli.manifests.manifest import Manifest
    from timecli.text.everyday import Everyday


def load_manifest(path: Pathlike) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: it cannot be read, or says something that cannot be; the sentence names the key.
    """
    from timecli.manifests import manifest

    return manifest.load(Path(path))


def everyday_world(
    manifest: Manifest,
    model: Loaded,
    cache: Path | None = None,
    tick: Callable[[int], None] = lambda _: None,
) -> Everyday | None:
    """The everyday prompts as the model reads them: from the user's cache, or encoded and kept there.

    Args:
        manifest: whose list.
        model: whose text encoder.
        cache: a folder of one's own; None is the user's. States that are not timecli's own need another.
        tick: called with the number of prompts that were encoded since the last call.

    Returns:
        Their root R `[d, d]`, float64, and the states at their ends; None where the manifest preserves none.
    """
    from timecli.text import worlds

    if not manifest.preserve.world:
        return None
    return worlds.kept(manifest, model.encoder, cache or worlds.cache(), tick)


def compile(manifest: Manifest, model: Loaded, everyday: Everyday | None = None) -> Delta:
    """Solve Eq. 5 of Orgad et al. (2023) in text space, with the everyday world preserved where the manifest says so.

    Args:
        manifest: the edits.
        model: for whose text encoder; opened with the manifest's `solve.clip_skip` and `solve.length`.
        everyday: the everyday world, from `everyday_world`; None takes what that gives.

    Returns:
        The edit: `delta.operator` has D = left · right, `[d, r]` and `[r, d]`, float32, with W' = W (I + D) for every
        cross-attention matrix W; `delta.origin` says where it comes from.

    Raises:
        PromptError: a prompt is too long, or a pair has no word in common.
        CheckpointError: the text encoder gives NaN, or was read at another layer.
    """
    from timecli.editing import compiling

    world = everyday_world(manifest, model) if everyday is None else everyday
    return compiling.compile_edit(manifest, model.checkpoint, model.encoder, model.device, world)


def plan(manifest: Manifest, model: Loaded, delta: Delta, everyday: Everyday | None = None) -> Preview:
    """Forecast from text alone what an edit will do; nothing is drawn.

    Args:
        manifest: the prompts.
        model: the unedited model.
        delta: the edit.
        everyday: the everyday world, from `everyday_world`; None takes what that gives.

    Returns:
        `forecasts` has, for every prompt of the manifest, the share of its way that it goes (0 stays, 1 arrives) and
        the share of its pictures that will show the destination; `metrics` their means.
    """
    from timecli.editing import preview

    world = everyday_world(manifest, model) if everyday is None else everyday
    return preview.preview(manifest, model.checkpoint, model.encoder, delta, world)


def apply(
    delta: Delta,
    model: Model,
    output: Pathlike,
    strength: float = 1.0,
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> tuple[Change, ...]:
    """Write an edited copy of a model, in the form in which it came: the bytes that `timecli edit` writes.

    Args:
        delta: from `compile`, or `timecli.editing.delta.load_delta`.
        model: that it is for.
        output: file or folder to write; complete or not there at all.
        strength: s in W' = W (I + s D).
        dtype: convert every float tensor; None keeps each tensor's own and every other byte.
        force: whether an existing output may be replaced.

    Returns:
        ‖W' − W‖ / ‖W‖ of every matrix that changed.

    Raises:
        DeltaError: it is for another text encoder.
        CheckpointError: the model carries an edit already, or lacks a layer.
        OutputError: the output exists, or cannot be written.
    """
    from timecli.editing import applying
    from timecli.files.targets import check_target
    from timecli.models import contents
    from timecli.models.carried import require_unedited
    from timecli.shipping import provenance
    from timecli.shipping.publish import publish

    checkpoint, target = model.checkpoint, Path(output)
    require_unedited(checkpoint, "start from the original")
    applying.require_same_encoder(delta, checkpoint, model.encoder.fingerprints)
    size = contents.size_on_disk(checkpoint, None if dtype is None else dtype.itemsize)
    check_target(target, [checkpoint.path], force, size, checkpoint.is_folder)
    edited = applying.edit_matrices(checkpoint, [delta], model.device, strength, dtype)
    records = [provenance.record(delta, edited.base, edited.made, strength)]
    publish(checkpoint, target, edited.tensors, records, dtype, with_hash=False, replace=force)
    return edited.changes


def verify(
    manifest: Manifest,
    model: Model,
    delta: Delta,
    judge: Pathlike | None = None,
    output: Pathlike | None = None,
    seeds: int | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Draw every prompt before and after, in float32, and measure.

    Meanwhile diffusers and transformers log errors alone.

    Args:
        manifest: whose prompts and thresholds; steps and guidance are its own, or those of the model's kind.
        model: the unedited model.
        delta: the edit.
        judge: a `CLIPModel` folder; None takes the folder `judge` beside the model, and measures nothing without one.
        output: a folder for the report, which a stopped call goes on in; None writes nothing.
        seeds: pictures of every prompt; None takes the manifest's.
        force: whether an existing report may be replaced.

    Returns:
        What `timecli verify --json` prints: `scores`, `missed`, `prompts`.

    Raises:
        CheckpointError: the model cannot be drawn with, or the folder is no judge.
    """
    from timecli.drawing.quiet import quiet

    with quiet():
        return _verified(manifest, model, delta, judge, None if output is None else Path(output), seeds, force)


def _verified(
    manifest: Manifest,
    model: Model,
    delta: Delta,
    judge: Pathlike | None,
    folder: Path | None,
    seeds: int | None,
    force: bool,
) -> dict[str, Any]:
    """What `verify` gives, of libraries that say what they like."""
    import torch

    from timecli.drawing import render, verification
    from timecli.drawing.judge import load_judge
    from timecli.models.judges import judge_beside

    wanted = manifest.verify
    settings = render.settings(seeds or wanted.seeds, wanted.steps, wanted.guidance, model.checkpoint)
    beside = judge_beside(model.checkpoint.path)
    place = beside if judge is None and (beside / "config.json").exists() else judge
    critic = None if place is None else load_judge(Path(place), model.device)
    how = (critic, settings, model.device, torch.float32, model.device)
    scene = verification.Scene(model.checkpoint, model.encoder, *how, world=everyday_world(manifest, model))
    made = verification.verify(manifest, {"after": delta}, scene, folder, lambda _: None)
    if folder is not None:
        verification.save(made, made.found, folder, force)
    return made.found
