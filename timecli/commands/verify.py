"""`timecli verify`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from timecli.commands import options, terminal
from timecli.commands.groups import Drawing, Reading, Telling, Trying, grouped
from timecli.commands.shared import (
    everyday_world,
    given,
    judge_folder,
    load_manifest,
    open_model,
    read_encoder,
    refuse,
    require_readable,
    settings_of,
    settle,
)
from timecli.errors import CheckpointError, OutputError, TimecliError

if TYPE_CHECKING:
    import torch

    from timecli.drawing.judge import Judge
    from timecli.drawing.verify import Images
    from timecli.editing.delta import Delta
    from timecli.manifests.manifest import Manifest
    from timecli.models.checkpoint import Checkpoint
    from timecli.text.encoding import TextEncoder

FILES = ("sheet.png", "report.md", "report.json")
"""What a report's folder holds."""


@grouped
def verify(
    manifest_path: options.ManifestPath,
    model: options.ModelPath,
    edited_path: options.EditedPath = None,
    output: options.ReportFolder = None,
    seeds: options.Seeds = None,
    *,
    drawing: Drawing,
    reading: Reading,
    force: options.Force = False,
    trying: Trying,
    telling: Telling,
) -> None:
    """Render before and after, measure, and exit with 1 when the manifest's thresholds are missed."""
    from timecli.editing.delta import is_model
    from timecli.files.writing import write_bytes
    from timecli.manifests.rows import everyday_rows, rows
    from timecli.models.checkpoint import require_unedited

    manifest = load_manifest(manifest_path, reading, trying)
    if edited_path is not None and trying.values():
        raise OutputError(f"{edited_path} is edited as it is; tried values are for an edit in memory, without EDITED.")
    folder = output or Path(f"{manifest.name}-verify")
    judge_place = judge_folder(drawing.judge_path, model)
    inputs = given(manifest_path, model, edited_path, judge_place, reading.config, reading.tokenizer)
    inputs += given(reading.text_encoder, reading.everyday)
    settle(*inputs)
    _check_report(folder, FILES, inputs, force)
    require_readable(reading, drawing.judge_path)
    checkpoint = open_model(model, reading.config, reading.text_encoder)
    require_unedited(checkpoint, "give the original")
    copy = None if edited_path is None or not is_model(edited_path) else _open_copy(edited_path, checkpoint, reading)

    from timecli.drawing import edited, report
    from timecli.drawing import verify as verifying
    from timecli.editing import compiling
    from timecli.text import everyday
    from timecli.text.uisyntax import cautions

    where = options.pick_device(reading.device)
    encoder = read_encoder(checkpoint, reading, where, manifest.solve.clip_skip)
    refuse(compiling.problems(manifest, encoder))
    terminal.warn_all(cautions(manifest, encoder))
    judge = _judge(drawing.judge_path, model, manifest, where)
    delta_path = edited_path if copy is None else None
    world = None if delta_path else everyday_world(manifest, encoder, reading)
    delta = edited.given_edit(delta_path, checkpoint, manifest, encoder, options.exact_device(where), world)
    draw = _drawing(copy, delta, manifest, checkpoint, encoder, where, reading)
    settings = settings_of(drawing, seeds or manifest.verify.seeds, [manifest])
    table = rows(manifest)
    listed = [prompt for prompt in everyday.prompts(manifest, encoder) if not compiling.too_long([prompt], encoder)]
    table += everyday_rows(listed, table)
    prompts = len(verifying.prompts_before(table)) + len(verifying.prompts_after(table))
    with terminal.progress("drawing", prompts * len(settings.seeds)) as tick:
        before, after = draw(table, settings, tick)
    scores = verifying.measured_by(judge, table, before, after) if judge else None
    misses = verifying.missed(manifest, scores["edited"]) if scores else []
    shares = edited.forecasts(delta, checkpoint, encoder, table)
    each = report.per_prompt(table, shares, judge, before, after)
    found = report.numbers(manifest, model.name, settings, scores, misses, each)
    sheet = report.sheet(table, report.columns(before, after), f"{manifest.name} on {model.name}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in report.files(sheet, found).items():
        write_bytes(folder / name, content, force)
    if telling.as_json:
        terminal.print_json("verify", found)
    else:
        if found["scores"]:
            terminal.print_scores(report.score_rows(found["scores"]), report.SCORES)
            terminal.print_table(report.EACH, report.each_rows(found["prompts"]))
        terminal.print_written([str(folder / name) for name in FILES])
    for sentence in misses:
        terminal.complain(sentence)
    raise typer.Exit(1 if misses else 0)


def _drawing(
    copy: Checkpoint | None,
    delta: Delta,
    manifest: Manifest,
    checkpoint: Checkpoint,
    encoder: TextEncoder,
    device: torch.device,
    reading: Reading,
) -> Callable[..., tuple[Images, Images]]:
    """How the pictures are drawn: an edited model by all of itself, a delta by the unedited model's other parts."""
    from timecli.drawing import edited
    from timecli.drawing.render import load_pipeline

    original = partial(load_pipeline, checkpoint, encoder, device)
    if copy is None:
        matrices = edited.edited_matrices(delta, checkpoint, options.exact_device(device))
        return partial(edited.draw, original(), matrices)
    for sentence in edited.require_copy(copy, checkpoint, encoder):
        terminal.warn(sentence)
    own = read_encoder(copy, reading, device, manifest.solve.clip_skip)
    return partial(edited.draw_copy, original, partial(load_pipeline, copy, own, device))


def _open_copy(path: Path, checkpoint: Checkpoint, reading: Reading) -> Checkpoint:
    """The edited model, with its own text encoders if it has them; a config that it lacks is the unedited model's."""
    try:
        copy = open_model(path, reading.config)
    except CheckpointError:
        if not reading.text_encoder:
            raise
        copy = open_model(path, reading.config, reading.text_encoder)
    return copy if copy.config is not None else replace(copy, config=checkpoint.config)


def _check_report(folder: Path, names: tuple[str, ...], inputs: list[Path], force: bool) -> None:
    """Refuse a place for the report before anything is drawn."""
    from timecli.files.targets import require_apart, require_replaceable

    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; choose a folder for the report.")
    if not folder.absolute().parent.is_dir():
        raise OutputError(f"{folder.parent} is not a folder; create it first.")
    require_apart([folder / name for name in names], inputs)
    for name in names:
        require_replaceable(folder / name, force)


def _judge(path: Path | None, model: Path, manifest: Manifest, device: torch.device) -> Judge | None:
    """The judge that was asked for, or the one beside the model; None without any."""
    from timecli.drawing.judge import load_judge
    from timecli.drawing.verify import demanded

    folder = judge_folder(path, model)
    if path is not None or (folder / "config.json").exists():
        return load_judge(folder, device)
    if demanded(manifest):
        needs = demanded(manifest)[0]
        raise TimecliError(
            f"{manifest.name} has a threshold for {needs}, which only a judge can measure; give --judge."
        )
    return None
