"""An edited model beside the unedited one: what it is, how far it will go, and the pictures of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from timecli.drawing import digest, prediction
from timecli.drawing.album import FOLDER, Album
from timecli.drawing.networks import network_of
from timecli.drawing.render import Pipeline, Settings, render, replaced
from timecli.drawing.verify import Images, prompts_after, prompts_before
from timecli.editing import applying, compiling, forecast, undo
from timecli.editing.delta import Delta, Origin, load_delta
from timecli.errors import CheckpointError, DeltaError, ManifestError
from timecli.manifests.keys import Preserve, Solve
from timecli.manifests.manifest import Manifest, parse
from timecli.manifests.rows import Row
from timecli.models import carried, streams
from timecli.models.checkpoint import Checkpoint
from timecli.models.comfyui import LEAST
from timecli.text import fingerprints
from timecli.text.everyday import Everyday
from timecli.text.readers import TextEncoder

AFTER = "after"
"""What an edit is called that is the only one."""


def given_edit(
    path: Path | None,
    checkpoint: Checkpoint,
    manifest: Manifest,
    encoder: TextEncoder,
    exact: torch.device,
    world: Everyday | None = None,
) -> Delta:
    """The edit that is verified.

    Args:
        path: a delta; None compiles the manifest in memory.
        checkpoint: the unedited model.
        manifest: the edit.
        encoder: the unedited model's text encoder.
        exact: where to calculate in float64.
        world: the everyday world, for an edit that is compiled.

    Raises:
        DeltaError: the delta is for another text encoder, or another layer of it.
    """
    if path is None:
        return compiling.compile_edit(manifest, checkpoint, encoder, exact, world)
    delta = load_delta(path)
    applying.require_same_encoder(delta, checkpoint, encoder.fingerprints)
    for key in ("clip_skip", "length"):
        made, wanted = getattr(delta.origin, key), getattr(manifest.solve, key)
        if made != wanted:
            raise DeltaError(
                f"{path} was compiled with {key} {made} and {manifest.name} has {wanted}; compile the manifest "
                f"again, or set its solve.{key}."
            )
    if checkpoint.family.name in LEAST and delta.origin.states_of != encoder.states_of:
        raise DeltaError(
            f"{path} was compiled with text as {delta.origin.states_of or 'diffusers'} makes it, and here it is as "
            f"{encoder.states_of or 'diffusers'} makes it; give --comfyui for both or for neither."
        )
    return delta


def edited_matrices(delta: Delta, checkpoint: Checkpoint, exact: torch.device) -> dict[str, torch.Tensor]:
    """The edited model's matrices by diffusers' names."""
    tensors = applying.edit_matrices(checkpoint, [delta], exact).tensors
    return {
        place.matrix.names[streams.DIFFUSERS]: tensors[place.key]
        for place in checkpoint.places
        if place.key in tensors and not place.twin
    }


def forecasts(delta: Delta, checkpoint: Checkpoint, encoder: TextEncoder, table: Sequence[Row]) -> list[float | None]:
    """How far an edit takes each row to its destination, of those that have one."""
    metric = forecast.metric(checkpoint, delta.origin, encoder)
    return forecast.told([(row.prompt, row.destination) for row in table], encoder, delta.operator, metric)


def require_copy(copy: Checkpoint, checkpoint: Checkpoint, encoder: TextEncoder) -> list[str]:
    """Refuse what is not an edited copy of a model; what a user should know of a copy that may be one.

    Args:
        copy: the edited model; without a record, other tools may have edited it.
        checkpoint: the unedited model.
        encoder: the unedited model's text encoder.

    Raises:
        CheckpointError: another text encoder, or a record of another model's matrices.
    """
    if not _same_text_encoder(copy, checkpoint, encoder):
        raise CheckpointError(
            f"{copy.path} has another text encoder than {checkpoint.path}; give the model it was made from."
        )
    base = carried.base_hash(checkpoint)
    if copy.edits and carried.holds(copy) is not False and copy.edits[0].get("base") != base:
        raise CheckpointError(f"{copy.path} was not made from {checkpoint.path}; give the model it was made from.")
    cautions = []
    kinds = [said and (said.kind, said.zero_snr) for said in map(prediction.stated, (copy, checkpoint))]
    if kinds[0] != kinds[1]:
        cautions.append(
            f"{copy.path} does not say of its prediction what {checkpoint.path} says, and is drawn otherwise; give it "
            "the same tensors, metadata or .yaml."
        )
    return cautions


def other_edit(copy: Checkpoint, checkpoint: Checkpoint, manifest: Manifest, compiled: Delta) -> list[str]:
    """What is known of a model that this manifest did not write, from its maps and its record.

    Args:
        copy: the edited model.
        checkpoint: the unedited model.
        manifest: the one that is verified.
        compiled: its edit.
    """
    if carried.base_hash(copy) == carried.base_hash(checkpoint):
        return [f"{copy.path} has the maps of {checkpoint.path}: it is not edited."]
    if not copy.edits:
        return [f"{copy.path} has no record of an edit, so nothing says which edit the numbers are of."]
    if carried.holds(copy) is False:
        return [f"{carried.doubt(copy)}."]
    names, (first, *more) = carried.named(copy.edits), copy.edits
    if more:
        return [f"{copy.path} was edited more than once ({names}); the numbers are of all of it."]
    if not undo.same_operator(first, compiled):
        return [_another(copy.path, names, manifest)]
    strength = first.get("strength", 1.0)
    return [] if strength == 1 else [f"{copy.path} was edited at strength {strength:g} of {names}."]


def other_delta(
    path: Path, delta: Delta, manifest: Manifest, encoder: TextEncoder, world: Everyday | None
) -> list[str]:
    """The same of a delta, by what its origin says."""
    found, wanted = delta.origin, compiling.origin(manifest, encoder, world)
    same = _asked(found) == _asked(wanted)
    if same and not manifest.parts and found.manifest != wanted.manifest:
        same = _solved(found.manifest) == (manifest.solve, manifest.preserve)
    return [] if same else [_another(path, repr(found.name), manifest)]


def _solved(text: str) -> tuple[Solve, Preserve] | None:
    """How the manifest of a delta solves it; None where that is no manifest, since anybody may have written it."""
    try:
        found = parse(text)
    except ManifestError:
        return None
    return found.solve, found.preserve


def _asked(origin: Origin) -> list[Any]:
    """What an edit was solved for, whatever the order of its pairs."""
    pairs = zip(origin.tokens, origin.lambdas, origin.strengths, strict=True)
    return [sorted(pairs), origin.everyday, origin.everyday_weight, origin.matrices, origin.layers]


def _another(path: Path, names: str, manifest: Manifest) -> str:
    same = names == repr(manifest.name)
    what = (
        f"another version of {names} (other pairs, strength or settings)"
        if same
        else f"{names} and not with {manifest.name!r}"
    )
    return f"{path} was made with {what}, as its record says; the numbers are of that edit."


def _same_text_encoder(copy: Checkpoint, checkpoint: Checkpoint, encoder: TextEncoder) -> bool:
    """Whether the copy has the model's text encoder, in bfloat16 perhaps, which fingerprints do not round to."""
    if encoder.fingerprint in fingerprints.of_model(copy):
        return True
    towers = copy.text_encoders()
    if not all(
        tensor.dtype == torch.bfloat16 for tower in towers for tensor in tower.values() if tensor.is_floating_point()
    ):
        return False
    rounded = [{name: tensor.bfloat16() for name, tensor in tower.items()} for tower in checkpoint.text_encoders()]
    return fingerprints.fingerprint(towers) == fingerprints.fingerprint(rounded)


Edits = Mapping[str, Mapping[str, torch.Tensor]]
"""Edited matrices by diffusers' names, of every edit by its name."""


def draw_copy(
    original: Callable[[], Pipeline],
    copy: Callable[[], Pipeline],
    table: Sequence[Row],
    settings: Settings,
    tick: Callable[[float], None],
    report: Path | None,
) -> tuple[Images, dict[str, Images]]:
    """Pictures before and after the edit, by prompt, from the same seeds, each with all of its own model.

    One model is in memory at a time. The copy is the first, so that a damaged one is refused before anything is drawn.

    Args:
        original: loads the unedited model.
        copy: loads the edited one.
        table: the prompts.
        settings: seeds, steps, guidance.
        tick: as in `render`.
        report: a folder that keeps what is drawn until the report is complete; None keeps nothing.
    """
    after = _drawn(copy(), None, prompts_after(table), settings, tick, report)
    return _drawn(original(), None, prompts_before(table), settings, tick, report), {AFTER: after}


def draw(
    pipeline: Pipeline,
    edits: Edits,
    table: Sequence[Row],
    settings: Settings,
    tick: Callable[[float], None],
    report: Path | None,
) -> tuple[Images, dict[str, Images]]:
    """Pictures before and after every edit, by prompt, from the same seeds; its matrices are put into the pipeline."""
    model = digest.of_pipeline(pipeline) if report else ""
    before = _drawn(pipeline, model, prompts_before(table), settings, tick, report)
    after = {}
    for name, matrices in edits.items():
        known = digest.of_edited(model, matrices) if report else ""
        with replaced(network_of(pipeline), matrices):
            after[name] = _drawn(pipeline, known, prompts_after(table), settings, tick, report)
    return before, after


def count(table: Sequence[Row], edits: int) -> int:
    """How many prompts are drawn, of the unedited model and of every edit."""
    return len(prompts_before(table)) + edits * len(prompts_after(table))


def _drawn(
    pipeline: Pipeline,
    model: str | None,
    prompts: Sequence[str],
    settings: Settings,
    tick: Callable[[float], None],
    report: Path | None,
) -> Images:
    """The pictures of a model as it is now; `model` is its digest where that is known, which takes long to make."""
    kept = _album(model or digest.of_pipeline(pipeline), prompts, settings, report) if report else None
    return render(pipeline, prompts, settings, tick, kept)


def _album(model: str, prompts: Sequence[str], settings: Settings, report: Path) -> Album:
    """That of a model's digest, for these prompts in their order and these settings: anything else has another."""
    known = [model, list(prompts), asdict(settings)]
    name = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]
    return Album(report / FOLDER / name)
