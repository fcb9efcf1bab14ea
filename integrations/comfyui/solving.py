"""A text, a MODEL and a CLIP become an edit, with a sentence of what it will do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_management
import comfy.utils
import torch

import timecli
from timecli.editing import conflicts
from timecli.editing.delta import Delta
from timecli.editing.preview import Preview
from timecli.errors import CheckpointError
from timecli.manifests.manifest import Manifest
from timecli.models.streams import Family
from timecli.text import everyday, uisyntax, worlds

from . import asking, network, states

KEPT = 16
"""Edits of a model that are remembered, so that a strength that changes solves nothing."""
LINES = 8
"""Lines of a kind that stand below a node."""


@dataclass(frozen=True)
class Solved:
    """An edit, and what will become of it."""

    delta: Delta
    sentence: str


_SOLVED: WeakKeyDictionary[Any, WeakKeyDictionary[Any, OrderedDict[Any, Solved]]] = WeakKeyDictionary()
"""By the network and by the text encoders themselves, so that none is kept in memory."""


def solved(model: Any, clip: Any, text: str) -> Solved:
    """The edit that a text asks for.

    Raises:
        TimecliError: one sentence says what is wrong with the text, the CLIP or the MODEL.
    """
    maps = network.maps(model)
    if clip is None:
        raise CheckpointError(
            "the CLIP is empty, as of a checkpoint without text encoders; connect one that loads them."
        )
    manifest = asking.read(text, states.skipped(clip, maps.family))
    _require_layer(manifest, clip, maps.family)
    of_clips = _SOLVED.setdefault(model.model, WeakKeyDictionary())
    known = of_clips.setdefault(clip.cond_stage_model, OrderedDict())
    key = (
        manifest,
        manifest.folder,
        asking.written(text),
        clip.patcher.patches_uuid,
        clip.layer_idx,
        repr(clip.tokenizer_options),
    )
    if key not in known:
        bar = comfy.utils.ProgressBar(1)
        encoder = states.read(clip, maps, manifest.solve.length, bar.update)
        bar.update_absolute(0, len(everyday.prompts(manifest, encoder)))
        known[key] = _solve(manifest, timecli.Loaded(maps, encoder, _device()), states.layout(encoder))
    known.move_to_end(key)
    if len(known) > KEPT:
        known.popitem(last=False)
    return known[key]


def _require_layer(manifest: Manifest, clip: Any, family: Family) -> None:
    wanted, found = manifest.solve.clip_skip, states.skipped(clip, family)
    if wanted != found:
        raise CheckpointError(
            f"{manifest.name} has solve.clip_skip {wanted}, and the CLIP gives the states of {found}; set the node "
            f"'CLIP Set Last Layer' to {states.layer(wanted, family)}, or write clip_skip = {found}."
        )


def _solve(manifest: Manifest, model: timecli.Loaded, layout: str) -> Solved:
    """With the everyday prompts that ComfyUI reads, kept apart from the command line's."""
    with torch.no_grad():
        world = timecli.everyday_world(manifest, model, worlds.cache() / "comfyui" / layout)
        delta = timecli.compile(manifest, model, world)
        seen = timecli.plan(manifest, model, delta, world)
        against = conflicts.conflicts(manifest, model.checkpoint, model.encoder, delta)
    # those about textual inversions are not for ComfyUI, which has read these
    cautions = [one for one in uisyntax.cautions(manifest, model.encoder) if "embedding:" not in one]
    return Solved(delta, sentence(manifest, seen, [*against, *cautions, *_length(manifest, model.encoder)]))


def _length(manifest: Manifest, encoder: Any) -> list[str]:
    """That a manifest's length is not ComfyUI's."""
    asked, found = manifest.solve.length, len(encoder.segments("")[-1].tokens)
    return (
        []
        if asked in (None, found)
        else [f"the edit is for ComfyUI's {found} positions, not the {asked} of solve.length."]
    )


def sentence(manifest: Manifest, seen: Preview, warnings: Sequence[str]) -> str:
    """How far the sources go, what moves most of the rest, and what is to be seen to."""
    shares = {one.row.prompt: one.share for one in seen.forecasts if one.row.kind == "source" and one.share is not None}
    lines = [
        f"{edit.source} goes {shares[edit.source]:.0%} of its way to {edit.destination}"
        for edit in manifest.edits
        if edit.source in shares
    ]
    most = [f"of what nobody named, {prompt} moves most: {share:.0%}" for prompt, share in seen.most[:1]]
    return "\n".join([*_first(lines), *most, *_first(warnings)])


def _first(lines: Sequence[str]) -> list[str]:
    """As many lines as have room below a node."""
    return [*lines[:LINES], *([f"and {len(lines) - LINES} more"] if len(lines) > LINES else [])]


def _device() -> torch.device:
    """Where to calculate in float64: some devices cannot."""
    device: torch.device = comfy.model_management.get_torch_device()
    return device if device.type == "cuda" else torch.device("cpu")


def tell(text: str, node: str | None) -> None:
    """Show a text below a node, in those versions of ComfyUI that can."""
    if node is None:  # a node outside a workflow
        return
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if hasattr(server, "send_progress_text"):
        server.send_progress_text(text, node)
