"""`timecli verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from timecli.commands import cards, options, terminal
from timecli.commands.comfyui import beside
from timecli.commands.groups import Drawing, Reading, Telling, Trying, grouped
from timecli.commands.shared import (
    everyday_worlds,
    given,
    judge_folder,
    load_together,
    manifests_first,
    open_model,
    read_encoder,
    refuse,
    require_readable,
    resumable,
    settle,
    stated,
)
from timecli.errors import CheckpointError, OutputError, TimecliError
from timecli.shown import amount

if TYPE_CHECKING:
    import torch

    from timecli.drawing.judge import Judge
    from timecli.manifests.manifest import Manifest
    from timecli.models.checkpoint import Checkpoint
    from timecli.text.readers import TextEncoder

FILES = ("report.html", "sheet.png", "report.md", "report.json")
"""What a report's folder holds."""
VARIED = {"lambda": "lam", "everyday-weight": "everyday_weight", "strength": "strength"}
"""What --vary takes, and the fields of `Trying`."""
Vary = Annotated[
    str | None,
    typer.Option("--vary", help="KEY=VALUE,... of strength, everyday-weight or lambda: a column for every value."),
]

Card = Annotated[
    Path | None,
    typer.Option("--card", help="Also write a model card for the hub: README.md, with pictures next to it."),
]


@grouped
def verify(
    paths: options.VerifiedPaths,
    output: options.ReportFolder = None,
    seeds: options.Seeds = None,
    vary: Vary = None,
    card: Card = None,
    *,
    drawing: Drawing,
    reading: Reading,
    force: options.Force = False,
    trying: Trying,
    telling: Telling,
) -> None:
    """Draw before and after, measure, and exit with 1 if a threshold of the manifest is missed."""
    from timecli.editing.delta import is_model
    from timecli.models.carried import require_unedited

    manifest_paths, models = manifests_first(paths)
    if not 1 <= len(models) <= 2:
        raise TimecliError(_order(paths, models))
    model, edited_path = models[0], models[1] if len(models) == 2 else None
    tasks = _tasks(manifest_paths, reading, trying, vary)
    manifest = next(iter(tasks.values()))
    if edited_path is not None and (trying.values() or vary):
        raise OutputError(
            f"{edited_path} is compared as it is; try values without EDITED, which then makes the edit in memory."
        )
    model, reading = beside(model, reading, draws=True)
    folder = output or Path(f"{manifest.name}-verify")
    inputs = given(manifest_paths, model, edited_path, judge_folder(drawing.judge_path, model), reading.config)
    inputs += given(reading.tokenizer, reading.text_encoder, reading.everyday)
    settle(*inputs)
    _check_report(folder, output is not None, inputs, force)
    if card is not None:
        cards.check(card, [*inputs, *(folder / name for name in FILES)], force)
    require_readable(reading, drawing.judge_path)
    checkpoint = open_model(model, reading.config, reading.text_encoder)
    require_unedited(checkpoint, "give the original before the edited model" if edited_path else "give the original")
    copy = None if edited_path is None or not is_model(edited_path) else _open_copy(edited_path, checkpoint, reading)

    from timecli.drawing import edited, render, verification
    from timecli.editing import compiling
    from timecli.manifests.words import negations
    from timecli.text.uisyntax import cautions

    where = options.pick_device(reading.device)
    exact = options.exact_device(where)
    encoder = read_encoder(checkpoint, reading, where, manifest.solve)
    refuse(compiling.problems(manifest, encoder))
    unread = negations(manifest)
    terminal.warn_all([caution for caution in cautions(manifest, encoder) if caution not in unread])
    judge = _judge(drawing.judge_path, model, manifest, where)
    delta_path = edited_path if copy is None else None
    worlds = everyday_worlds(encoder, reading)
    deltas = {
        name: edited.given_edit(delta_path, checkpoint, task, encoder, exact, None if delta_path else worlds(task))
        for name, task in tasks.items()
    }
    own = _own_encoder(copy, checkpoint, encoder, manifest, where, reading)
    first = next(iter(deltas.values()))
    if delta_path is not None:
        doubts = edited.other_delta(delta_path, first, manifest, encoder, worlds(manifest))
    else:
        doubts = [] if copy is None else edited.other_edit(copy, checkpoint, manifest, first)
    doubts += unread
    how = stated(drawing, manifest.parts or [manifest])
    settings = render.settings(seeds or manifest.verify.seeds, *how, checkpoint)
    dtype = options.pick_precision(drawing.precision, where)
    scene = verification.Scene(checkpoint, encoder, judge, settings, where, dtype, exact, own, worlds(manifest))
    pictures = edited.count(verification.table(manifest, deltas, scene), len(deltas)) * len(settings.seeds)
    with resumable(), terminal.progress("drawing", pictures) as tick:
        made = verification.verify(manifest, deltas, scene, folder, tick, doubts)
    terminal.say_all(settings.because)
    data = terminal.enveloped("verify", made.found)
    verification.save(made, data, folder, force)
    written = [folder / name for name in FILES]
    written += cards.write(card, manifest, made, data, force) if card is not None else []
    _print(data, written, telling)
    raise typer.Exit(1 if data["missed"] else 0)


def _order(paths: Sequence[Path], models: Sequence[Path]) -> str:
    """What is wrong with the files that were given."""
    order = "give manifests (.toml) first, then MODEL, and EDITED last if there is one"
    if paths[0].suffix != ".toml" and any(path.suffix == ".toml" for path in paths):
        return f"{paths[0]} stands in the place of a manifest; {order}."
    if not models:
        return f"no model stands behind {paths[-1]}; {order}."
    return f"{amount(len(models), 'file')} stand behind the manifests; {order}."


def _tasks(paths: Sequence[Path], reading: Reading, trying: Trying, vary: str | None) -> dict[str, Manifest]:
    """The manifest by the name of its column: one, or one for every value that is compared."""
    if vary is None:
        return {"after": load_together(paths, reading, trying)}
    key, _, listed = vary.partition("=")
    options.choice(key, "--vary", VARIED)
    if getattr(trying, VARIED[key]) is not None:
        raise OutputError(f"--{key} and --vary {key} are two ways to try values; choose one.")
    found = {}
    for text in listed.split(","):
        try:
            value = float(text)
        except ValueError:
            raise TimecliError(f"--vary {key}: {text!r} is not a number; write --vary {key}=0.5,1,1.5.") from None
        found[f"{key} {value:g}"] = load_together(paths, reading, replace(trying, **{VARIED[key]: value}))
    return found


def _own_encoder(
    copy: Checkpoint | None,
    checkpoint: Checkpoint,
    encoder: TextEncoder,
    manifest: Manifest,
    where: torch.device,
    reading: Reading,
) -> tuple[Checkpoint, TextEncoder] | None:
    """An edited model with its own text encoder, if it is an edited copy of the unedited one."""
    from timecli.drawing import edited

    if copy is None:
        return None
    terminal.warn_all(edited.require_copy(copy, checkpoint, encoder))
    return copy, read_encoder(copy, reading, where, manifest.solve)


def _open_copy(path: Path, checkpoint: Checkpoint, reading: Reading) -> Checkpoint:
    """The edited model, with its own text encoders if it has them; a config that it lacks is the unedited model's."""
    from timecli.files.safefile import open_file
    from timecli.models.others import alone

    try:
        copy = open_model(path, reading.config)
    except CheckpointError:
        if path.is_file() and (alone(open_file(path).entries) or "").startswith("a LoRA"):
            raise CheckpointError(
                f"{path} is a LoRA, which `verify` does not draw with; give the delta that it was exported from, or a "
                "whole edited model."
            ) from None
        if not reading.text_encoder:
            raise
        copy = open_model(path, reading.config, reading.text_encoder)
    return copy if copy.config is not None else replace(copy, config=checkpoint.config)


def _print(data: dict[str, Any], written: Sequence[Path], telling: Telling) -> None:
    """The numbers, where the report is, and what is missed."""
    from timecli.drawing import report
    from timecli.manifests.rows import OTHERS

    terminal.warn_all(data["doubts"])
    if telling.as_json:
        terminal.print_data(data)
    else:
        if data["scores"]:
            terminal.print_table(("", *report.SCORES), report.score_rows(data["scores"]))
            terminal.print_table(*report.each_table(data))
        for line in report.balance_lines(data):
            terminal.say(line)
        terminal.print_written(list(map(str, written)))
    _warn_of_harm(data)
    for sentence in data["missed"]:
        terminal.complain(sentence)
    if any(OTHERS not in sentence for sentence in data["missed"]):
        terminal.say(
            "next: `timecli plan` gives advice for each prompt; `timecli tune` and --vary try values.", stderr=True
        )


def _warn_of_harm(data: dict[str, Any]) -> None:
    """Say so where what should stay changed more than it does from seed to seed, whatever the thresholds are."""
    from timecli.drawing.report import best

    changed = [
        f"{row['prompt']!r} ({row['likeness']:.3f}, another seed {row['another_seed']:.3f})"
        for row in sorted(data["prompts"], key=lambda row: row["likeness"] or 0.0)
        if row["kind"] == "everyday" and row["another_seed"] is not None and row["likeness"] < row["another_seed"]
    ]
    if changed:
        terminal.warn(f"the edit changes these everyday prompts more than another seed does: {', '.join(changed)}.")

    yardstick = (data["scores"] or {}).get("another seed", {})
    kept, other = (scores.get("kept", {}).get("mean") for scores in (best(data), yardstick))
    if kept is not None and other is not None and kept < other:
        preserved = data["edits"][data["best"]]["everyday_weight"] is not None
        terminal.warn(
            f"what should stay is less like before ({kept:.3f}) than with another seed ({other:.3f}): the edit "
            f"harms the model; {'raise preserve.everyday_weight' if preserved else 'preserve everyday prompts'}, or "
            "lower the strength."
        )


def _check_report(folder: Path, named: bool, inputs: list[Path], force: bool) -> None:
    """Refuse a place for the report before anything is drawn."""
    from timecli.files.targets import require_apart, require_no_link, require_replaceable

    if not named:
        require_no_link(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; choose a folder for the report.")
    if not folder.absolute().parent.is_dir():
        raise OutputError(f"{folder.parent} is not a folder; create it first.")
    require_apart([folder / name for name in FILES], inputs)
    for name in (*FILES, ".drawn"):  # where pictures are kept until the report is complete
        require_no_link(folder / name)
    for name in FILES:
        require_replaceable(folder / name, force)


def _judge(path: Path | None, model: Path, manifest: Manifest, device: torch.device) -> Judge | None:
    """The judge that was asked for, or the one beside the model; None without any."""
    from timecli.drawing.judge import load_judge
    from timecli.drawing.verify import demanded
    from timecli.models.judges import ADVICE

    folder = judge_folder(path, model)
    if path is not None or (folder / "config.json").exists():
        return load_judge(folder, device)
    needs = ", ".join(demanded(manifest))
    unmeasured = f"so the thresholds ({needs}) are not measured" if needs else "so nothing is measured"
    terminal.warn(f"no judge was given, {unmeasured}; pictures are only drawn; {ADVICE}.")
    return None
