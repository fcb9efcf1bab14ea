"""`timecli apply`."""

from __future__ import annotations

from pathlib import Path

from timecli.commands import options, terminal
from timecli.commands.cautions import harm, warn_of_encoder, warn_of_record, warn_of_rounding, warn_of_streams
from timecli.commands.comfyui import named
from timecli.commands.groups import Telling, Writing, grouped
from timecli.commands.outputs import (
    bring_settings,
    check_in_place,
    check_output,
    choose_output,
    default_output,
    settings_beside,
)
from timecli.commands.shared import given, model_last, open_model, require_once
from timecli.commands.summaries import print_edit
from timecli.errors import TimecliError


@grouped
def apply(
    paths: options.DeltaPaths,
    output: options.ApplyOutput = None,
    strength: options.Strength = 1.0,
    text_encoder: options.TextEncoders = None,
    config: options.Config = None,
    comfyui: options.ComfyUINames = None,
    device: options.Device = "auto",
    *,
    writing: Writing,
    undo: options.Undo = False,
    telling: Telling,
    verbose: options.Verbose = False,
) -> None:
    """Apply DELTA to MODEL; at strength 1 it writes what `edit` writes. With --undo, take it back."""
    from timecli.editing import delta as deltas
    from timecli.models import carried

    _check_strength(strength, undo)
    recipes, model = model_last(paths, "delta")
    origins = [deltas.read_origin(path) for path in recipes]
    model = named(model, comfyui)
    checkpoint = open_model(model, config, text_encoder, not writing.leave_ema, needs="fingerprints")
    output = choose_output(model, output, writing.in_place)
    if output is None:
        name = "+".join(origin.name for origin in origins)
        output = default_output(model, f"without-{name}" if undo else name)
    if writing.stack:
        warn_of_record(checkpoint, "they are edited as they are")
    elif not undo:
        carried.require_unedited(checkpoint)
        require_once(recipes)
        deltas.require_one(origins)
    inputs = given(recipes, text_encoder, config)
    if writing.in_place:
        check_in_place(checkpoint, inputs, writing.dtype)
    else:
        check_output(checkpoint, inputs, output, writing.force, writing.dtype)
    settings = settings_beside(model, output, inputs, writing.with_config, writing.force)

    from timecli.editing import applying
    from timecli.editing import undo as undoing
    from timecli.shipping import provenance
    from timecli.shipping.publish import publish
    from timecli.text.fingerprints import of_model

    target_dtype, exact = options.pick_dtype(writing.dtype), options.exact_device(options.pick_device(device))
    edits = [deltas.load_delta(path) for path in recipes]
    encoder = of_model(checkpoint)
    for delta in edits:
        # What is taken back is in the record, with its text encoder, which another dtype may have rounded.
        applying.require_same_encoder(delta, checkpoint, () if undo else encoder)
    warn_of_encoder(encoder, checkpoint)
    warn_of_streams(edits, checkpoint)
    made = undoing.undone(checkpoint, edits, not writing.leave_ema) if undo else edits
    off = undoing.require_near(checkpoint, made) if undo else None
    told = None not in carried.held(checkpoint)[-len(edits) :]  # of the files as they are before one is replaced
    edited = applying.edit_matrices(checkpoint, made, exact, strength, target_dtype)
    records = [
        provenance.record(delta, edited.base, edited.made, strength, not writing.no_recipe, not writing.leave_ema)
        for delta in edits
    ]
    taken_back = len(edits) if undo else 0
    replace = writing.force or writing.in_place
    how = (target_dtype, writing.with_hash, replace, taken_back, edited.made)
    digest = publish(checkpoint, output, edited.tensors, records, *how)
    copied = bring_settings(settings, output, writing.with_config, writing.force) if settings else []
    summary = {**applying.summary(edits[-1], edited.changes, (), ()), **digest, "strength": strength}
    summary |= {"rounding": edited.rounding} if off is None else {"blur": off}
    summary |= {"name": ", ".join(delta.origin.name for delta in edits), "written": [str(output), *map(str, copied)]}
    terminal.print_json("apply", summary) if telling.as_json else print_edit(summary, verbose)
    if off is not None:
        return _say_how_near(output, off, undoing.before(checkpoint, len(edits)) == edited.made, told)
    warn_of_rounding(edited.rounding)
    if not any(delta.origin.everyday for delta in edits):
        terminal.warn_all(harm(summary["name"], None, edited.changes))


def _say_how_near(output: Path, off: float, same: bool, told: bool) -> None:
    """What the undone model is, against the original.

    Args:
        output: the model.
        off: how far its maps may be from the original's.
        same: whether they are the original's, bit for bit.
        told: whether the record tells that the tensors were those that were written.
    """
    from timecli.editing.undo import NEAR

    if same:
        terminal.say("the original's maps are back, bit for bit", stderr=True)
    elif not told:
        terminal.warn(
            f"{output} is the original to about {max(off, NEAR):.1%}, if nothing changed the file after the edit; its "
            "record has no hash to check that."
        )
    elif off > NEAR:
        terminal.warn(f"rounding lost digits that do not come back: {output} is the original to about {off:.1%}.")
    else:
        terminal.say(f"the original is back, to about {off:.0e} of its size", stderr=True)


def _check_strength(strength: float, undo: bool) -> None:
    if undo and strength != 1:
        raise TimecliError(
            "--undo takes each edit back at the strength that MODEL's record names; leave out --strength."
        )
    if strength < 0:
        terminal.warn(
            f"--strength {strength:g} is an edit in the other direction, which does not take one back; --undo does."
        )
