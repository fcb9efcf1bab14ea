"""The command line. Each command reads its arguments, calls one function after the other, and prints.

What a command needs is imported when it runs, so that `timecli --help` answers at once. Results go to stdout, progress
and errors to stderr.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from timecli import __version__
from timecli.errors import CheckpointError, OutputError, TimecliError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from timecli.checkpoint import Checkpoint
    from timecli.delta import Delta
    from timecli.edit import Edited
    from timecli.encode import TextEncoder
    from timecli.manifest import Manifest

app = typer.Typer(
    help="Edit what a text-to-image model assumes, as files under version control.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ManifestPath = Annotated[Path, typer.Argument(metavar="MANIFEST", help="Edit manifest (TOML).")]
ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="Single .safetensors file or diffusers folder.")]
Config = Annotated[Path | None, typer.Option("--config", help="Diffusers folder with configs and tokenizer. [default: 'config' beside the file]")]
TokenizerPath = Annotated[Path | None, typer.Option("--tokenizer", help="Tokenizer folder. [default: the config's, else CLIP's own]")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="keep, fp16, bf16 or fp32: convert every float tensor of the output.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Stack = Annotated[bool, typer.Option("--stack", help="Edit a model that already carries a timecli edit; order matters then.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]

_debug = False


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    global _debug
    _debug = debug
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def edit(
    manifest_path: ManifestPath,
    model: ModelPath,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Edited model. [default: <model>-<manifest name> in this folder]")] = None,
    delta_path: Annotated[Path | None, typer.Option("--delta", help="Write the edit as a delta file; without -o, only that.")] = None,
    config: Config = None,
    tokenizer: TokenizerPath = None,
    device: Device = "auto",
    dtype: Dtype = "keep",
    force: Force = False,
    stack: Stack = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compute and print everything, write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Edit MODEL as MANIFEST says and write the result in the same form."""
    seconds: dict[str, float] = {}
    with _stage(seconds, "start"):
        from timecli import delta as deltas
        from timecli import edit as editing
        from timecli import manifest as manifests
        from timecli import report
        from timecli.checkpoint import check_target, open_checkpoint

    manifest = manifests.load(manifest_path)
    target_dtype, where = _dtype(dtype), _device(device)
    with _stage(seconds, "open"):
        checkpoint = open_checkpoint(model, config)
        _refuse_edited(checkpoint, stack)
        if output is None and delta_path is None:
            output = Path(f"{model.resolve().stem}-{manifest.name}{'' if checkpoint.is_folder else '.safetensors'}")
        for target, size in ((output, _size(model, dtype)), (delta_path, 0)):
            if target is not None and not dry_run:
                check_target(target, [model, manifest_path], force, size)
        if output is not None and delta_path is not None and output.resolve() == delta_path.resolve():
            raise OutputError(f"{output} is given for both the model and the delta; choose two names.")
    with _stage(seconds, "text encoder"):
        encoder = editing.read_text_encoder(checkpoint, tokenizer, where)
    with _stage(seconds, "compile"):
        delta = editing.compile_edit(manifest, encoder, _exact(where))
        moved = editing.moved(manifest, encoder, delta.operator)
    with _stage(seconds, "apply"):
        edited = editing.edit_matrices(checkpoint, delta, _exact(where), dtype=target_dtype)
    if not dry_run:
        with _stage(seconds, "write"):
            if delta_path is not None:
                deltas.save_delta(delta, delta_path)
            if output is not None:
                _write(checkpoint, output, delta, edited, 1.0, target_dtype)
    summary = report.edit_summary(delta, edited.changes, moved, seconds)
    written = [] if dry_run else [str(path) for path in (output, delta_path) if path is not None]
    if as_json:
        return _print_json({**summary, "written": written})
    out = _console()
    out.print(report.change_table(edited.changes))
    _print_changes(out, manifest.name, delta, summary)
    for pair, share in zip(manifest.edits, moved, strict=True):
        out.print(f"{pair.source} -> {pair.destination}: moved {share:.1%} of the way in text space", highlight=False)
    out.print("seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in seconds.items()), highlight=False)
    _print_written(out, written)


@app.command(name="apply")
def apply_command(
    delta_path: Annotated[Path, typer.Argument(metavar="DELTA", help="Delta file, from `timecli edit --delta`.")],
    model: ModelPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="Edited model.")],
    strength: Annotated[float, typer.Option("--strength", min=-1.0, max=2.0, help="1 is the edit as compiled, 0 none.")] = 1.0,
    device: Device = "auto",
    dtype: Dtype = "keep",
    force: Force = False,
    stack: Stack = False,
    as_json: AsJson = False,
) -> None:
    """Apply DELTA to MODEL: the same bytes as `edit` would write, at strength 1."""
    from timecli import edit as editing
    from timecli import report
    from timecli.checkpoint import check_target, open_checkpoint
    from timecli.delta import load_delta

    target_dtype, where = _dtype(dtype), _device(device)
    delta = load_delta(delta_path)
    checkpoint = open_checkpoint(model)
    _refuse_edited(checkpoint, stack)
    check_target(output, [model, delta_path], force, _size(model, dtype))
    editing.require_same_encoder(delta, checkpoint)
    edited = editing.edit_matrices(checkpoint, delta, _exact(where), strength, target_dtype)
    _write(checkpoint, output, delta, edited, strength, target_dtype)
    summary = report.edit_summary(delta, edited.changes, (), {})
    if as_json:
        return _print_json({**summary, "strength": strength, "written": [str(output)]})
    out = _console()
    _print_changes(out, delta.origin.name, delta, summary)
    _print_written(out, [str(output)])


@app.command()
def check(
    manifest_path: ManifestPath,
    model: Annotated[Path | None, typer.Argument(metavar="[MODEL]", help="Also check against this model.")] = None,
    config: Config = None,
    tokenizer: TokenizerPath = None,
) -> None:
    """Validate MANIFEST; with MODEL, show how tokens are paired and everything that would be refused."""
    from timecli import manifest as manifests

    manifest = manifests.load(manifest_path)
    out = _console()
    if model is not None:
        from timecli import edit as editing
        from timecli.checkpoint import open_checkpoint

        checkpoint, cpu = open_checkpoint(model, config), _device("cpu")
        encoder = editing.read_text_encoder(checkpoint, tokenizer, cpu)
        found = editing.problems(manifest, encoder)
        if not found:
            _print_pairs(out, manifest, encoder)
            delta = editing.compile_edit(manifest, encoder, cpu)
            editing.edit_matrices(checkpoint, delta, cpu)
        if checkpoint.edits:
            found.append(f"{model} already carries the edit {checkpoint.edits[-1]['name']!r}; `edit` needs --stack.")
        if found:
            for sentence in found:
                _console(stderr=True).print(f"timecli: {sentence}", soft_wrap=True, highlight=False, markup=False)
            raise typer.Exit(2)
    pairs = len(manifest.edits)
    out.print(f"{manifest_path}: {manifest.name} is valid, {pairs} edit{'s' if pairs > 1 else ''}.", soft_wrap=True, highlight=False)


@app.command()
def verify(
    manifest_path: ManifestPath,
    model: ModelPath,
    edited_path: Annotated[Path | None, typer.Argument(metavar="[EDITED]", help="Edited model or delta; without it the edit is made in memory.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the report. [default: <manifest name>-verify]")] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="Pictures per prompt. [default: the manifest's]")] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Denoising steps.")] = 25,
    guidance: Annotated[float, typer.Option("--guidance", min=0.0, help="Classifier-free guidance scale.")] = 7.5,
    judge_path: Annotated[Path | None, typer.Option("--judge", help="CLIPModel folder. [default: 'judge' beside MODEL]")] = None,
    config: Config = None,
    tokenizer: TokenizerPath = None,
    device: Device = "auto",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Render before and after, measure, and exit with 1 when the manifest's thresholds are missed."""
    from timecli import edit as editing
    from timecli import judge as judging
    from timecli import manifest as manifests
    from timecli import render, report
    from timecli import verify as verifying
    from timecli.checkpoint import open_checkpoint

    manifest, where = manifests.load(manifest_path), _device(device)
    folder = output or Path(f"{manifest.name}-verify")
    if (folder / "report.json").exists() and not force:
        raise OutputError(f"{folder} already holds a report; use --force to replace it.")
    checkpoint = open_checkpoint(model, config)
    encoder = editing.read_text_encoder(checkpoint, tokenizer, where)
    for sentence in editing.problems(manifest, encoder):
        raise TimecliError(sentence)
    judge = _judge(judge_path, model, manifest, where)
    table = verifying.rows(manifest)
    settings = render.Settings(tuple(range(seeds or manifest.verify.seeds)), steps, guidance)
    before_prompts, after_prompts = verifying.prompts_before(table), verifying.prompts_after(table)
    pipeline, replacement = render.load_pipeline(checkpoint, encoder, where), _edited_model(edited_path, checkpoint, manifest, encoder, where)
    total = (len(before_prompts) + len(after_prompts)) * len(settings.seeds)
    with _progress("drawing", total) as tick:
        before = render.render(pipeline, before_prompts, settings, tick)
        if isinstance(replacement, dict):
            with render.replaced(pipeline, replacement):
                after = render.render(pipeline, after_prompts, settings, tick)
        else:
            after = render.render(replacement, after_prompts, settings, tick)
    scores = verifying.measure(table, before, after, judge.choose) if judge else None
    misses = verifying.missed(manifest, scores["edited"]) if scores else []
    found = report.numbers(manifest, model.name, settings, scores, misses)
    folder.mkdir(parents=True, exist_ok=True)
    report.save_report(folder, report.sheet(table, before, after, f"{manifest.name} on {model.name}"), found, table)
    if as_json:
        _print_json(found)
    else:
        out = _console()
        if found["scores"]:
            out.print(report.score_table(found["scores"]))
        _print_written(out, [str(folder / name) for name in ("sheet.png", "report.md", "report.json")])
    for sentence in misses:
        _console(stderr=True).print(f"timecli: {sentence}", soft_wrap=True, highlight=False)
    if misses:
        raise typer.Exit(1)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Model or delta.")],
    as_json: AsJson = False,
) -> None:
    """Say what FILE is: form, architecture, dtypes, edits that it carries."""
    from timecli import report
    from timecli.checkpoint import open_checkpoint, open_file
    from timecli.delta import is_delta, load_delta

    if file.is_file() and is_delta(open_file(file)):
        about = report.about_delta(load_delta(file))
    else:
        about = report.about_checkpoint(open_checkpoint(file))
    if as_json:
        return _print_json(about)
    edits = about.pop("edits", [])
    for entry in [about, *edits]:
        for key, value in entry.items():
            text = f"\n{value}" if key == "manifest" else f" {value}"
            print(f"{key}:{text}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of manifests, for editors."""
    from timecli.manifest import schema as manifest_schema

    _print_json(manifest_schema())


# ---------------------------------------------------------------------------------------------------------------------


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=140)


def _print_json(data: dict[str, Any]) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def _print_changes(out: Console, name: str, delta: Delta, summary: dict[str, Any]) -> None:
    change, lambdas = summary["change"], ", ".join(f"{lam:g}" for lam in dict.fromkeys(delta.origin.lambdas))
    out.print(f"{name}: {len(summary['changed'])} matrices, ‖ΔW‖/‖W‖ {change['least']:.4f} least, {change['median']:.4f} median, {change['most']:.4f} most", highlight=False)
    out.print(f"operator: rank {delta.operator.rank} of {delta.operator.width}, condition {delta.operator.condition:.1e}, lambda {lambdas}", highlight=False)


def _print_written(out: Console, paths: list[str]) -> None:
    for path in paths or ["nothing (dry run)"]:
        out.print(f"wrote {path}", soft_wrap=True, highlight=False, markup=False)


def _print_pairs(out: Console, manifest: Manifest, encoder: TextEncoder) -> None:
    from rich.table import Table

    for edit in manifest.edits:
        source, destination = encoder.words(edit.source), encoder.words(edit.destination)
        table = Table("", "source", "destination", "")
        for i, (word, j) in enumerate(zip(source, encoder.alignment(edit.source, edit.destination), strict=False)):
            table.add_row(str(i), word, destination[j], str(j))
        out.print(table)
        if manifest.solve.tokens == "all":
            out.print(f"and {encoder.length - len(source)} positions of padding, one by one", highlight=False)


@contextmanager
def _stage(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Time one stage; show its name while it runs, on a terminal."""
    started = time.perf_counter()
    with _console(stderr=True).status(name):
        yield
    seconds[name] = round(time.perf_counter() - started, 3)


@contextmanager
def _progress(name: str, total: float) -> Iterator[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("pictures, left:"), TimeRemainingColumn())
    with Progress(*columns, console=_console(stderr=True)) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.advance(task, count)


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TimecliError(f"--device {name} is not available here; use auto, cpu, cuda, cuda:N or mps.") from error
    return device


def _exact(device: torch.device) -> torch.device:
    """Where to calculate in float64, which MPS lacks."""
    return _device("cpu") if device.type == "mps" else device


def _dtype(name: str) -> torch.dtype | None:
    from timecli.checkpoint import DTYPES

    if name not in ("keep", *DTYPES):
        raise TimecliError(f"--dtype {name} is not known; use keep, {', '.join(DTYPES)}.")
    return DTYPES.get(name)


def _size(model: Path, dtype: str) -> int:
    """An upper bound of what the output needs on disk."""
    files = [model] if model.is_file() else [file for file in model.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) * (2 if dtype == "fp32" else 1)


def _refuse_edited(checkpoint: Checkpoint, stack: bool) -> None:
    if checkpoint.edits and not stack:
        names = ", ".join(repr(record["name"]) for record in checkpoint.edits)
        raise CheckpointError(f"{checkpoint.path} already carries a timecli edit ({names}); start from the original, or use --stack.")


def _write(checkpoint: Checkpoint, output: Path, delta: Delta, edited: Edited, strength: float, dtype: torch.dtype | None) -> None:
    from timecli.checkpoint import write_checkpoint
    from timecli.edit import record

    write_checkpoint(checkpoint, output, edited.tensors, record(delta, edited.base, strength), dtype)


def _judge(path: Path | None, model: Path, manifest: Manifest, device: torch.device) -> Any:
    """The judge that was asked for, or the one beside the model; None without any."""
    from timecli.judge import load_judge
    from timecli.verify import METRICS

    beside = (model if model.is_dir() else model.parent) / "judge"
    if path is None and (beside / "config.json").exists():
        path = beside
    demanded = [metric for metric in METRICS if getattr(manifest.verify, metric) is not None]
    if path is None and demanded:
        raise TimecliError(f"{manifest.name} has a threshold for {demanded[0]}, which only a judge can measure; give one with --judge.")
    return load_judge(path, device) if path is not None else None


def _edited_model(path: Path | None, checkpoint: Checkpoint, manifest: Manifest, encoder: TextEncoder, device: torch.device) -> Any:
    """The edited model's pipeline, or its changed matrices by diffusers' names."""
    from timecli import edit as editing
    from timecli import layouts, render
    from timecli.checkpoint import open_checkpoint, open_file
    from timecli.delta import is_delta, load_delta

    if path is None:
        delta = editing.compile_edit(manifest, encoder, _exact(device))
    elif path.is_file() and is_delta(open_file(path)):
        delta = load_delta(path)
        editing.require_same_encoder(delta, checkpoint)
    else:
        other = open_checkpoint(path, None if path.is_dir() else checkpoint.config)
        return render.load_pipeline(other, editing.read_text_encoder(other, None, device), device)
    tensors = editing.edit_matrices(checkpoint, delta, _exact(device)).tensors
    names = {matrix.names[checkpoint.spelling]: matrix.names[layouts.DIFFUSERS] for matrix in checkpoint.matrices}
    return {names[name]: tensor for name, tensor in tensors.items()}


def _interrupted(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors become one sentence on stderr and exit code 2."""
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        app(arguments)
    except (TimecliError, OSError) as error:
        if _debug:
            raise
        _console(stderr=True).print(f"timecli: {error}", soft_wrap=True, highlight=False, markup=False)
        sys.exit(2)
    except Exception as error:
        if _debug:
            raise
        sentence = f"timecli: unexpected {type(error).__name__}: {error}; run `timecli --debug …` and report it."
        _console(stderr=True).print(sentence, soft_wrap=True, highlight=False, markup=False)
        sys.exit(3)
