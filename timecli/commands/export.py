"""`timecli export`."""

from __future__ import annotations

from dataclasses import replace

from timecli import options, terminal


def export(
    delta_path: options.DeltaPath,
    model: options.ModelPath,
    output: options.AdapterOutput,
    form: options.AdapterFormat = "lora",
    rank: options.Rank = None,
    tolerance: options.Tolerance = None,
    text_encoder: options.TextEncoder = None,
    dtype: options.AdapterDtype = "fp32",
    force: options.Force = False,
    no_recipe: options.NoRecipe = False,
    as_json: options.AsJson = False,
) -> None:
    """Write DELTA for MODEL as a LoRA, which A1111, Forge, ComfyUI and diffusers load: the same edit, exactly."""
    from timecli import delta as deltas
    from timecli import edit as editing
    from timecli import export as exporting
    from timecli import provenance
    from timecli.checkpoint import open_checkpoint
    from timecli.encode import fingerprint
    from timecli.safefile import DTYPES
    from timecli.writing import check_target, write_tensors

    form = options.choice(form, "--format", exporting.FORMATS)
    target_dtype = DTYPES[options.choice(dtype, "--dtype", DTYPES)]
    delta, checkpoint = deltas.load_delta(delta_path), open_checkpoint(model, text_encoder=text_encoder)
    check_target(output, [delta_path, model], force, 0)
    editing.require_same_encoder(delta, checkpoint, fingerprint(checkpoint.text_encoders()))
    operator, lost = exporting.truncated(delta.operator, rank, tolerance)
    cut = replace(delta, operator=operator)
    tensors = exporting.adapter(checkpoint, cut, form, target_dtype)
    records = [provenance.record(cut, editing.base_hash(checkpoint), 1.0, not no_recipe)]
    write_tensors(output, tensors, exporting.about(checkpoint, cut, form, records))
    if as_json:
        summary = {"format": form, "rank": operator.rank, "lost": lost, "tensors": len(tensors)}
        return terminal.print_json({**summary, "written": [str(output)]})
    terminal.say(f"{delta.origin.name} as {form}: rank {operator.rank} of {delta.operator.rank}, {lost:.2e} of D lost")
    terminal.print_written([str(output)])
