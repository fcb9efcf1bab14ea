"""The Python interface: from a manifest and a model to a forecast, an edited file and a report.

Mistakes raise `timecli.errors.TimecliError` with one sentence for people. Nothing here prints or exits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from timecli.editing.applying import Change
    from timecli.editing.delta import Delta
    from timecli.editing.preview import Preview
    from timecli.manifests.manifest import Manifest
    from timecli.models.checkpoint import Checkpoint
    from timecli.models.maps import Maps, Network
    from timecli.text.everyday import Everyday
    from timecli.text.readers import TextEncoder

Pathlike = str | PathLike[str]


@dataclass(frozen=True)
class Loaded:
    """A model that another program holds in memory: what an edit is compiled and forecast for.

    Attributes:
        checkpoint: its maps that read text, from `loaded_maps`.
        encoder: a `timecli.text.readers.TextEncoder` that gives the states which the network is fed with.
        device: where to calculate.
    """

    checkpoint: Network
    encoder: TextEncoder
    device: torch.device


@dataclass(frozen=True)
class Model(Loaded):
    """A model on disk with its text encoder in memory.

    Attributes:
        checkpoint: where its tensors are.
        encoder: its text encoders, float32; `encoder.embed` gives states `[positions, d]` of each prompt, float64.
        device: where to calculate.
    """

    checkpoint: Checkpoint


def load_manifest(path: Pathlike) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: it cannot be read, or says something that cannot be; the sentence names the key.
    """
    from timecli.manifests import manifest

    return manifest.load(Path(path))


def open_model(
    path: Pathlike,
    config: Pathlike | None = None,
    text_encoder: Sequence[Pathlike] = (),
    tokenizer: Pathlike | None = None,
    clip_skip: int = 1,
    length: int | None = None,
    device: str = "cpu",
) -> Model:
    """Open a model and read its text encoder; no UNet is built.

    Args:
        path: a single .safetensors file, or a diffusers folder.
        config: a diffusers folder with configs and tokenizers; by default one named `config` beside the file.
        text_encoder: files or folders of text encoders, for a model that has none.
        tokenizer: a tokenizer folder.
        clip_skip: which layer's states the model is drawn with, counted from the last as A1111 counts.
        length: how many positions a diffusion transformer's text is filled up to; None for as many as diffusers.
        device: where to encode and to calculate: "cpu", "cuda", "cuda:1". Edits are solved in float64.

    Raises:
        CheckpointError: it is no model of a known family in safetensors form, or damaged.
    """
    import torch

    from timecli.models.checkpoint import open_checkpoint
    from timecli.text.encoding import read_text_encoder

    folder = None if config is None else Path(config)
    checkpoint = open_checkpoint(Path(path), folder, [Path(one) for one in text_encoder])
    where = torch.device(device)
    encoder = read_text_encoder(checkpoint, None if tokenizer is None else Path(tokenizer), where, clip_skip, length)
    return Model(checkpoint, encoder, where)


def loaded_maps(weights: Mapping[str, torch.Tensor], shapes: Mapping[str, Sequence[int]], name: str) -> Maps:
    """The maps of a network that another program holds in memory.

    Args:
        weights: maps `[out, d]` by the names that a single file with the network alone has for them; each is asked for
            when it is needed, and by a name of the table of `timecli.models.layouts`.
        shapes: of all tensors of the network, by which its family is told.
        name: how errors call the network.

    Raises:
        CheckpointError: it is no model of a known family.
    """
    from timecli.models import maps

    return maps.find(weights, {key: tuple(shape) for key, shape in shapes.items()}, name)


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
