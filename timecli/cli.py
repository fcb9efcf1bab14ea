"""The command line. Each command reads its arguments, calls one function after the other, and prints.

What a command needs is imported when it runs, so that `timecli --help` answers at once. Results go to stdout, progress
and errors to stderr.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timecli import __version__, options, terminal
from timecli.errors import Interrupted, OutputError, TimecliError

if TYPE_CHECKING:
    import torch

    from timecli.checkpoint import Checkpoint
    from timecli.judge import Judge
    from timecli.manifest import Manifest

QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}
"""Environment for the libraries below: never the network, no chatter. What the user has set stays."""

app = typer.Typer(
    help="Edit what a text-to-image model assumes, as files under version control.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_debug = False


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
]


@app.callback()
def _options(debug: options.Debug = False, version: Version = False) -> None:
    global _debug
    _debug = debug


@app.command()
def edit(
    manifest_path: options.ManifestPath,
    model: options.ModelPath,
    output: options.EditOutput = None,
    delta_path: options.DeltaOutput = None,
    config: options.Config = None,
    tokenizer: options.Tokenizer = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "keep",
    force: options.Force = False,
    stack: options.Stack = False,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
) -> None:
    """Edit MODEL as MANIFEST says and write the result in the same form."""
    seconds: dict[str, float] = {}
    with terminal.stage(seconds, "start"):
        from timecli import checkpoint as files
        from timecli import delta as deltas
        from timecli import edit as editing
        from timecli import manifest as manifests

        target_dtype, where = options.pick_dtype(dtype), options.pick_device(device)
    with terminal.stage(seconds, "open"):
        manifest = manifests.load(manifest_path)
        checkpoint = files.open_checkpoint(model, config)
        if not stack:
            editing.require_unedited(checkpoint)
        if output is None and delta_path is None:
            output = Path(f"{model.absolute().name if checkpoint.is_folder else model.stem}-{manifest.name}")
            output = output if checkpoint.is_folder else Path(f"{output}.safetensors")
        if not dry_run:
            _check_outputs(checkpoint, manifest_path, output, delta_path, force, target_dtype)
    with terminal.stage(seconds, "text encoder"):
        encoder = editing.read_text_encoder(checkpoint, tokenizer, where)
    with terminal.stage(seconds, "compile"):
        delta = editing.compile_edit(manifest, encoder, options.exact_device(where))
        moved = editing.moved(manifest, encoder, delta.operator)
    with terminal.stage(seconds, "apply"):
        edited = editing.edit_matrices(checkpoint, delta, options.exact_device(where), dtype=target_dtype)
    with terminal.stage(seconds, "write"):
        if output is not None and not dry_run:
            record = editing.record(delta, edited.base, strength=1.0)
            files.write_checkpoint(checkpoint, output, edited.tensors, record, target_dtype)
        if delta_path is not None and not dry_run:
            deltas.save_delta(delta, delta_path)
    written = [] if dry_run else [str(path) for path in (output, delta_path) if path is not None]
    summary = {**editing.summary(delta, edited.changes, moved, seconds), "written": written}
    terminal.print_json(summary) if as_json else terminal.print_edit(summary, manifest.edits)


@app.command(name="apply")
def apply_command(
    delta_path: options.DeltaPath,
    model: options.ModelPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="Edited model.")],
    strength: options.Strength = 1.0,
    device: options.Device = "auto",
    dtype: options.Dtype = "keep",
    force: options.Force = False,
    stack: options.Stack = False,
    as_json: options.AsJson = False,
) -> None:
    """Apply DELTA to MODEL: the same bytes as `edit` would write, at strength 1."""
    from timecli import checkpoint as files
    from timecli import delta as deltas
    from timecli import edit as editing
    from timecli.encode import fingerprint

    target_dtype, where = options.pick_dtype(dtype), options.pick_device(device)
    delta = deltas.load_delta(delta_path)
    checkpoint = files.open_checkpoint(model)
    if not stack:
        editing.require_unedited(checkpoint)
    _check_outputs(checkpoint, delta_path, output, None, force, target_dtype)
    editing.require_same_encoder(delta, checkpoint, fingerprint(checkpoint.text_encoder()))
    edited = editing.edit_matrices(checkpoint, delta, options.exact_device(where), strength, target_dtype)
    record = editing.record(delta, edited.base, strength)
    files.write_checkpoint(checkpoint, output, edited.tensors, record, target_dtype)
    summary = {**editing.summary(delta, edited.changes, (), {}), "strength": strength, "written": [str(output)]}
    terminal.print_json(summary) if as_json else terminal.print_edit(summary, ())


@app.command()
def check(
    manifest_path: options.ManifestPath,
    model: options.OptionalModel = None,
    config: options.Config = None,
    tokenizer: options.Tokenizer = None,
) -> None:
    """Validate MANIFEST; with MODEL, show how tokens are paired and everything that would be refused."""
    from timecli import manifest as manifests

    manifest = manifests.load(manifest_path)
    if model is not None:
        _refuse(_check_model(manifest, model, config, tokenizer))
    count = len(manifest.edits)
    terminal.say(f"{manifest_path}: {manifest.name} is valid, {count} edit{'s' if count > 1 else ''}.")


@app.command()
def verify(
    manifest_path: options.ManifestPath,
    model: options.ModelPath,
    edited_path: options.EditedPath = None,
    output: options.ReportFolder = None,
    seeds: options.Seeds = None,
    steps: options.Steps = 25,
    guidance: options.Guidance = 7.5,
    judge_path: options.JudgePath = None,
    config: options.Config = None,
    tokenizer: options.Tokenizer = None,
    device: options.Device = "auto",
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Render before and after, measure, and exit with 1 when the manifest's thresholds are missed."""
    from timecli import edit as editing
    from timecli import manifest as manifests
    from timecli import render, report
    from timecli import verify as verifying
    from timecli.checkpoint import open_checkpoint

    manifest, where = manifests.load(manifest_path), options.pick_device(device)
    folder = output or Path(f"{manifest.name}-verify")
    _check_report(folder, report.FILES, force)
    checkpoint = open_checkpoint(model, config)
    editing.require_unedited(checkpoint, "give the original")
    encoder = editing.read_text_encoder(checkpoint, tokenizer, where)
    _refuse(editing.problems(manifest, encoder))
    judge = _judge(judge_path, model, manifest, where)
    edited = verifying.edited_matrices(edited_path, checkpoint, manifest, encoder, options.exact_device(where))
    pipeline = render.load_pipeline(checkpoint, encoder, where)
    settings = render.Settings(tuple(range(seeds or manifest.verify.seeds)), steps, guidance)
    table = verifying.rows(manifest)
    prompts = len(verifying.prompts_before(table)) + len(verifying.prompts_after(table))
    with terminal.progress("drawing", prompts * len(settings.seeds)) as tick:
        before, after = verifying.draw(pipeline, edited, table, settings, tick)
    scores = verifying.measure(table, before, after, judge.choose) if judge else None
    misses = verifying.missed(manifest, scores["edited"]) if scores else []
    found = report.numbers(manifest, model.name, settings, scores, misses)
    report.save_report(folder, report.sheet(table, before, after, f"{manifest.name} on {model.name}"), found, table)
    if as_json:
        terminal.print_json(found)
    else:
        if found["scores"]:
            terminal.print_scores(report.score_rows(found["scores"]), tuple(verifying.METRICS))
        terminal.print_written([str(folder / name) for name in report.FILES])
    for sentence in misses:
        terminal.complain(sentence)
    raise typer.Exit(1 if misses else 0)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Model or delta.")], as_json: options.AsJson = False
) -> None:
    """Say what FILE is: form, architecture, dtypes, edits that it carries."""
    from timecli import checkpoint as files
    from timecli import delta as deltas
    from timecli.safefile import open_file

    if file.is_file() and deltas.is_delta(open_file(file)):
        about = deltas.describe(deltas.load_delta(file))
    else:
        about = files.describe(files.open_checkpoint(file))
    terminal.print_json(about) if as_json else terminal.print_about(about)


@app.command()
def schema() -> None:
    """Print the JSON Schema of manifests, for editors."""
    from timecli.manifest import schema as manifest_schema

    terminal.print_json(manifest_schema())


# ---------------------------------------------------------------------------------------------------------------------


def _refuse(sentences: list[str]) -> None:
    """Print every sentence and stop, if there is any."""
    for sentence in sentences:
        terminal.complain(sentence)
    if sentences:
        raise typer.Exit(2)


def _check_model(manifest: Manifest, model: Path, config: Path | None, tokenizer: Path | None) -> list[str]:
    """Print the token pairing and make the edit in memory; sentences for everything that would be refused."""
    from timecli import edit as editing
    from timecli.checkpoint import open_checkpoint

    checkpoint, cpu = open_checkpoint(model, config), options.pick_device("cpu")
    encoder = editing.read_text_encoder(checkpoint, tokenizer, cpu)
    sentences = editing.problems(manifest, encoder)
    terminal.print_pairs(manifest, encoder)
    for trial in (
        lambda: editing.require_unedited(checkpoint),
        lambda: editing.edit_matrices(checkpoint, editing.compile_edit(manifest, encoder, cpu), cpu),
    ):
        try:
            trial()
        except TimecliError as error:
            sentences.append(str(error))
    return list(dict.fromkeys(sentences))


def _check_outputs(
    checkpoint: Checkpoint,
    recipe: Path,
    output: Path | None,
    delta: Path | None,
    force: bool,
    dtype: torch.dtype | None,
) -> None:
    """Refuse what cannot be written before any work is done."""
    from timecli.checkpoint import size_on_disk
    from timecli.safefile import check_target

    sources = [checkpoint.path, recipe]
    if output is not None and delta is not None and output.resolve() == delta.resolve():
        raise OutputError(f"{output} is given for both the model and the delta; choose two names.")
    if output is not None:
        check_target(output, sources, force, size_on_disk(checkpoint, dtype), checkpoint.is_folder)
    if delta is not None:
        check_target(delta, sources, force, 0)


def _check_report(folder: Path, names: tuple[str, ...], force: bool) -> None:
    """Refuse a place for the report before anything is drawn."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; choose a folder for the report.")
    if not folder.absolute().parent.is_dir():
        raise OutputError(f"{folder.parent} is not a folder; create it first.")
    for name in names:
        if (folder / name).exists() and not force:
            raise OutputError(f"{folder / name} already exists; use --force to replace it.")


def _judge(path: Path | None, model: Path, manifest: Manifest, device: torch.device) -> Judge | None:
    """The judge that was asked for, or the one beside the model; None without any."""
    from timecli.judge import load_judge
    from timecli.verify import demanded

    beside = (model if model.is_dir() else model.parent) / "judge"
    if path is None and (beside / "config.json").exists():
        path = beside
    if path is not None:
        return load_judge(path, device)
    if demanded(manifest):
        needs = demanded(manifest)[0]
        raise TimecliError(
            f"{manifest.name} has a threshold for {needs}, which only a judge can measure; give --judge."
        )
    return None


def _interrupted(_number: int, _frame: object) -> None:
    raise Interrupted


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors become one sentence on stderr and exit code 2."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):  # a Windows pipe cannot take every letter otherwise
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
    try:
        app(arguments)
    except Interrupted:
        terminal.complain("interrupted; nothing is half written.")
        sys.exit(2)
    except (TimecliError, OSError) as error:
        if _debug:
            raise
        terminal.complain(str(error))
        sys.exit(2)
    except Exception as error:
        if _debug:
            raise
        terminal.complain(f"unexpected {type(error).__name__}: {error}; run `timecli --debug …` and report it.")
        sys.exit(3)
