"""`timecli edit`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from timecli.commands import options, terminal
from timecli.commands.shared import (
    bring_settings,
    check_in_place,
    check_output,
    choose_output,
    given,
    open_model,
    settings_beside,
    warn_of_rounding,
    with_clip_skip,
)
from timecli.errors import OutputError

if TYPE_CHECKING:
    import torch

    from timecli.models.checkpoint import Checkpoint


def edit(
    manifest_path: options.ManifestPath,
    model: options.ModelPath,
    output: options.EditOutput = None,
    delta_path: options.DeltaOutput = None,
    in_place: options.InPlace = False,
    config: options.Config = None,
    tokenizer: options.Tokenizer = None,
    text_encoder: options.TextEncoders = None,
    clip_skip: options.ClipSkip = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "keep",
    force: options.Force = False,
    stack: options.Stack = False,
    leave_ema: options.LeaveEma = False,
    no_recipe: options.NoRecipe = False,
    with_hash: options.WithHash = False,
    with_config: options.WithConfig = False,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Edit MODEL as MANIFEST says and write the result in the same form."""
    seconds: dict[str, float] = {}
    with terminal.stage(seconds, "start"):
        from timecli.editing import applying, compiling
        from timecli.editing import delta as deltas
        from timecli.manifests import manifest as manifests
        from timecli.shipping import provenance
        from timecli.shipping.publish import publish
        from timecli.text import encoding
        from timecli.text.uisyntax import cautions

        target_dtype, where = options.pick_dtype(dtype), options.pick_device(device)
        exact = options.exact_device(where)
    with terminal.stage(seconds, "open"):
        manifest = with_clip_skip(manifests.load(manifest_path), clip_skip)
        checkpoint = open_model(model, config, text_encoder, not leave_ema)
        applying.require_layers(checkpoint, manifest.solve.layers)
        if not stack:
            applying.require_unedited(checkpoint)
        output = choose_output(model, output, in_place)
        if output is None and delta_path is None:
            output = _default_output(model, manifest.name)
        settings, inputs = None, given(manifest_path, tokenizer, text_encoder)
        if not dry_run:
            _check(checkpoint, inputs, output, delta_path, force, in_place, target_dtype)
            if output is not None:
                settings = settings_beside(model, output, inputs, with_config, force)
    with terminal.stage(seconds, "text encoder"):
        encoder = encoding.read_text_encoder(checkpoint, tokenizer, where, manifest.solve.clip_skip)
    terminal.warn_all(cautions(manifest, encoder))
    with terminal.stage(seconds, "compile"):
        delta = compiling.compile_edit(manifest, encoder, exact)
        moved = compiling.moved(manifest, encoder, delta.operator)
    edited, digest = None, {}
    if output is not None:  # a delta alone needs the text encoder only
        with terminal.stage(seconds, "apply"):
            edited = applying.edit_matrices(checkpoint, [delta], exact, dtype=target_dtype)
    with terminal.stage(seconds, "write"):
        if output is not None and edited is not None and not dry_run:
            records = [provenance.record(delta, edited.base, 1.0, not no_recipe, averages=not leave_ema)]
            digest = publish(checkpoint, output, edited.tensors, records, target_dtype, with_hash, force or in_place)
        if delta_path is not None and not dry_run:
            deltas.save_delta(delta, delta_path, force)
    copied = bring_settings(settings, output, with_config, force) if settings and output else []
    summary = {**applying.summary(delta, edited.changes if edited else (), moved), **digest}
    written = [] if dry_run else [*given(output, delta_path), *copied]
    summary["rounding"] = edited.rounding if edited else None
    summary["written"] = list(map(str, written))
    summary["seconds"] = seconds
    terminal.print_json(summary) if as_json else terminal.print_edit(summary, manifest.edits)
    warn_of_rounding(summary["rounding"])


def _default_output(model: Path, name: str) -> Path:
    """In this folder, called after the model and the manifest."""
    return Path(f"{Path(os.path.abspath(model)).name}-{name}" if model.is_dir() else f"{model.stem}-{name}.safetensors")


def _check(
    checkpoint: Checkpoint,
    inputs: list[Path],
    output: Path | None,
    delta: Path | None,
    force: bool,
    in_place: bool,
    dtype: torch.dtype | None,
) -> None:
    """Refuse what cannot be written before any work is done."""
    from timecli.files.targets import check_target

    if output is not None and delta is not None and output.resolve() == delta.resolve():
        raise OutputError(f"{output} is given for both the model and the delta; choose two names.")
    if in_place:
        check_in_place(checkpoint, inputs, dtype)
    elif output is not None:
        check_output(checkpoint, inputs, output, force, dtype)
    if delta is not None:
        check_target(delta, [checkpoint.path, *given(checkpoint.config), *inputs], force, 0)
