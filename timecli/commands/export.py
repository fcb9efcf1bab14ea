"""`timecli export`."""

from __future__ import annotations

from timecli.commands import options, terminal
from timecli.commands.cautions import warn_of_encoder, warn_of_streams
from timecli.commands.comfyui import named
from timecli.commands.groups import Telling, grouped
from timecli.commands.shared import given, open_model
from timecli.errors import OutputError


@grouped
def export(
    delta_path: options.DeltaPath,
    model: options.ModelPath,
    output: options.AdapterOutput,
    form: options.AdapterFormat = None,
    rank: options.Rank = None,
    tolerance: options.Tolerance = None,
    text_encoder: options.TextEncoders = None,
    config: options.Config = None,
    comfyui: options.ComfyUINames = None,
    dtype: options.AdapterDtype = "fp16",
    force: options.Force = False,
    no_recipe: options.NoRecipe = False,
    *,
    telling: Telling,
) -> None:
    """Write DELTA for MODEL as a LoRA: the same edit, but for what rounding and the rank lose, which is printed."""
    from timecli.editing import delta as deltas
    from timecli.files.targets import check_target

    deltas.read_origin(delta_path)
    if rank is not None and tolerance is not None:
        raise OutputError("--rank and --tolerance both limit the rank; choose one.")
    model = named(model, comfyui)
    checkpoint = open_model(model, config, text_encoder, needs="fingerprints")
    check_target(output, given(delta_path, model, text_encoder, config), force, 0)

    from timecli.editing import applying
    from timecli.files.rewriting import write_tensors
    from timecli.files.tensors import DTYPES
    from timecli.shipping import export as exporting
    from timecli.shipping import provenance
    from timecli.text.fingerprints import of_model

    delta, target_dtype = deltas.load_delta(delta_path), DTYPES[dtype]
    encoder = of_model(checkpoint)
    applying.require_same_encoder(delta, checkpoint, encoder)
    warn_of_encoder(encoder, checkpoint)
    warn_of_streams([delta], checkpoint)
    form, by_default = form or checkpoint.family.adapter, rank is None and tolerance is None
    if by_default and form != "diff":
        rank, tolerance = exporting.fitting(checkpoint, delta, target_dtype), exporting.TOLERANCE
    small, lost = exporting.smaller(delta, rank, tolerance)
    made = exporting.adapter(checkpoint, delta, form, target_dtype, small)
    records = [provenance.record(delta, made.base, made.made, 1.0, not no_recipe)]
    write_tensors(output, made.tensors, exporting.about(checkpoint, small, form, records), force, follow=True)
    size = output.stat().st_size
    if by_default and lost > exporting.LOST:
        terminal.warn(
            f"{lost:.0%} of the edit is lost, so that the LoRA has no more than 100 MB; "
            f"--tolerance {exporting.TOLERANCE} makes a larger one."
        )
    if sentence := exporting.unread(form, checkpoint.family):
        terminal.warn(sentence)
    summary = {"format": form, "rank": small.operator.rank, "lost": lost, "error": made.error, "bytes": size}
    if telling.as_json:
        return terminal.print_json("export", {**summary, "written": [str(output)]})
    ranks = f"rank {small.operator.rank} of {delta.operator.rank}"
    found = f"{lost:.2%} of the edit lost, {made.error:.2%} of the maps' change with {dtype}, {size / 1e6:.3g} MB"
    terminal.say(f"{delta.origin.name} as {form}: {ranks}, {found}")
    terminal.print_written([str(output)])
