"""`timecli edit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from timecli.commands import options, terminal
from timecli.commands.cautions import harm, warn_of_record, warn_of_rounding
from timecli.commands.comfyui import beside
from timecli.commands.groups import Reading, Telling, Trying, Writing, grouped
from timecli.commands.outputs import (
    bring_settings,
    check_in_place,
    check_output,
    choose_output,
    default_output,
    settings_beside,
)
from timecli.commands.shared import (
    everyday_world,
    given,
    load_together,
    model_last,
    open_model,
    read_encoder,
    require_readable,
)
from timecli.commands.summaries import print_edit
from timecli.errors import OutputError

if TYPE_CHECKING:
    from timecli.models.checkpoint import Checkpoint


@grouped
def edit(
    paths: options.ManifestPaths,
    output: options.EditOutput = None,
    delta_path: options.DeltaOutput = None,
    *,
    reading: Reading,
    writing: Writing,
    trying: Trying,
    telling: Telling,
    verbose: options.Verbose = False,
) -> None:
    """Edit MODEL as MANIFEST says (several are one joint edit), and write the result in the same form."""
    manifest_paths, model = model_last(paths, "manifest")
    seconds: dict[str, float] = {}
    with terminal.timed(seconds, "open"):  # what is wrong here is answered before there is anything to show
        manifest = load_together(manifest_paths, reading, trying)
        require_readable(reading)
        from timecli.models.carried import require_unedited
        from timecli.models.maps import require_maps

        model, reading = beside(model, reading)
        checkpoint = open_model(model, reading.config, reading.text_encoder, not writing.leave_ema)
        require_maps(checkpoint, manifest.solve.matrices, manifest.solve.layers)
        if writing.stack:
            warn_of_record(checkpoint, "they are edited as they are")
        else:
            require_unedited(checkpoint)
        output = choose_output(model, output, writing.in_place)
        if output is None and delta_path is None:
            output = default_output(model, manifest.name)
        settings, inputs = None, given(manifest_paths, reading.tokenizer, reading.text_encoder, reading.everyday)
        _check(checkpoint, inputs, output, delta_path, writing)
        if output is not None:
            settings = settings_beside(model, output, inputs, writing.with_config, writing.force)
    with terminal.stage(seconds, "start"):
        from timecli.editing import applying, compiling, conflicts, forecast
        from timecli.editing import delta as deltas
        from timecli.shipping import provenance
        from timecli.shipping.publish import publish
        from timecli.text.uisyntax import cautions

        target_dtype, where = options.pick_dtype(writing.dtype), options.pick_device(reading.device)
        exact = options.exact_device(where)
    with terminal.stage(seconds, "text encoder"):
        encoder = read_encoder(checkpoint, reading, where, manifest.solve)
    terminal.warn_all(cautions(manifest, encoder))
    with terminal.timed(seconds, "everyday"):
        world = everyday_world(manifest, encoder, reading)
    with terminal.stage(seconds, "compile"):
        delta = compiling.compile_edit(manifest, checkpoint, encoder, exact, world)
        moved = compiling.moved(manifest, encoder, delta.operator)
        metric = forecast.metric(checkpoint, delta.origin, encoder)
        shares = forecast.told([(e.source, e.destination) for e in manifest.edits], encoder, delta.operator, metric)
        against = conflicts.conflicts(manifest, checkpoint, encoder, delta)
    edited, digest = None, {}
    if output is not None:  # a delta alone needs the text encoder only
        with terminal.stage(seconds, "apply"):
            edited = applying.edit_matrices(checkpoint, [delta], exact, dtype=target_dtype)
    with terminal.stage(seconds, "write"):
        if output is not None and edited is not None:
            records = [
                provenance.record(delta, edited.base, edited.made, 1.0, not writing.no_recipe, not writing.leave_ema)
            ]
            replace = writing.force or writing.in_place
            digest = publish(checkpoint, output, edited.tensors, records, target_dtype, writing.with_hash, replace)
        if delta_path is not None:
            deltas.save_delta(delta, delta_path, writing.force)
    copied = bring_settings(settings, output, writing.with_config, writing.force) if settings and output else []
    pairs = [(edit.source, edit.destination) for edit in manifest.edits]
    summary = {**applying.summary(delta, edited.changes if edited else (), pairs, moved), **digest}
    summary["shares"] = shares
    summary["tried"], drift = trying.values(), compiling.drift(world, delta.operator) if world else None
    summary["everyday_moved"] = drift
    written = [*given(output, delta_path), *copied]
    summary["rounding"] = edited.rounding if edited else None
    summary["written"] = list(map(str, written))
    summary["seconds"] = seconds
    terminal.print_json("edit", summary) if telling.as_json else print_edit(summary, verbose)
    terminal.warn_all(against)
    warn_of_rounding(summary["rounding"])
    terminal.warn_all(harm(manifest.name, drift, edited.changes if edited else ()))


def _check(
    checkpoint: Checkpoint,
    inputs: list[Path],
    output: Path | None,
    delta: Path | None,
    writing: Writing,
) -> None:
    """Refuse what cannot be written before any work is done."""
    from timecli.files.targets import check_target

    if output is not None and delta is not None and output.resolve() == delta.resolve():
        raise OutputError(f"{output} is given for both the model and the delta; choose two names.")
    if writing.in_place:
        check_in_place(checkpoint, inputs, writing.dtype)
    elif output is not None:
        check_output(checkpoint, inputs, output, writing.force, writing.dtype)
    if delta is not None:
        check_target(delta, [checkpoint.path, *given(checkpoint.config), *inputs], writing.force, 0)
