"""`timecli tune`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timecli.commands import options, terminal, tuned
from timecli.commands.comfyui import beside
from timecli.commands.groups import Drawing, Reading, Telling, grouped
from timecli.commands.shared import (
    everyday_worlds,
    given,
    judge_folder,
    load_manifest,
    model_last,
    open_model,
    read_encoder,
    refuse,
    require_readable,
    settle,
    stated,
)
from timecli.errors import ManifestError, OutputError
from timecli.manifests.kinds import MOST_SEEDS
from timecli.shown import amount

if TYPE_CHECKING:
    from timecli.manifests.manifest import Manifest
    from timecli.measuring.tune import Trial
    from timecli.models.checkpoint import Checkpoint

Output = Annotated[Path | None, typer.Option("-o", "--output", help="Tuned manifest; of several, their folder.")]
InPlace = Annotated[bool, typer.Option("--in-place", help="Write the value into MANIFEST itself; comments stay.")]
Objective = Annotated[
    str | None,
    typer.Option(
        "--objective",
        help="harmonic (of generality, specificity, kept and reached), forecast (of the same, without drawing), "
        "or balance (of two descriptions; of several manifests jointly). [default: balance for manifests with that "
        "alone, else harmonic]",
    ),
]
TuneSeeds = Annotated[int, typer.Option("--seeds", min=1, max=MOST_SEEDS, help="Pictures per prompt.")]


@grouped
def tune(
    paths: options.ManifestPaths,
    output: Output = None,
    in_place: InPlace = False,
    objective: Objective = None,
    seeds: TuneSeeds = 24,
    *,
    drawing: Drawing,
    reading: Reading,
    force: options.Force = False,
    telling: Telling,
) -> None:
    """Find the strength for MANIFEST by drawing with MODEL, or λ if everyday prompts are not preserved."""
    manifest_paths, model = model_last(paths, "manifest")
    from timecli.measuring import objectives, schedule
    from timecli.models.carried import require_unedited
    from timecli.models.maps import require_maps

    if objective is not None:
        options.choice(objective, "--objective", objectives.OBJECTIVES)
    tasks = [load_manifest(path, reading) for path in manifest_paths]
    objective = objective or objectives.suited(tasks)
    model, reading = beside(model, reading, draws=objective != "forecast")
    judge = judge_folder(drawing.judge_path, model)
    settle(model, *given(reading.config, reading.text_encoder, judge))
    _require(tasks, objective)
    inputs = given(model, reading.config, reading.tokenizer, reading.text_encoder, reading.everyday, judge)
    targets = _targets(manifest_paths, tasks, output, in_place, inputs, force)
    schedule.require_one_reading(tasks)
    how = stated(drawing, tasks)
    require_readable(reading, drawing.judge_path)
    checkpoint = open_model(model, reading.config, reading.text_encoder)
    require_unedited(checkpoint, "give the original")
    for task in tasks:
        require_maps(checkpoint, task.solve.matrices, task.solve.layers)
    if not any(targets):
        terminal.say("the result is only printed; -o or --in-place write it.", stderr=True)
    dtype = drawing.precision
    found, unedited, pictures = _search(tasks, objective, checkpoint, judge, (seeds, *how), dtype, reading)
    for task, path, target, trial in zip(tasks, manifest_paths, targets, found, strict=True):
        _write(task, path, target, trial.value, force, in_place)
    summary = tuned.summary(tasks, found, unedited, objective, seeds)
    written = [str(target) for target in targets if target]
    if telling.as_json:
        about = {"objective": objective, "pictures": pictures, "written": written}
        return terminal.print_json("tune", {**(summary[0] if len(tasks) == 1 else {"manifests": summary}), **about})
    for row in summary:
        terminal.say(tuned.line(row, objective))
    terminal.say(f"{amount(pictures, 'picture')} drawn")
    terminal.print_written(written)


def _search(
    tasks: Sequence[Manifest],
    objective: str,
    checkpoint: Checkpoint,
    judge: Path,
    how: tuple[int, int | None, float | None],
    precision: str,
    reading: Reading,
) -> tuple[list[Trial], list[float], int]:
    """What was found for every manifest, the shares of the unedited model for a balance, and the pictures drawn."""
    from timecli.drawing.render import settings
    from timecli.editing import compiling
    from timecli.measuring import studio, trials, tune

    where = options.pick_device(reading.device)
    encoder = read_encoder(checkpoint, reading, where, tasks[0].solve)
    refuse([sentence for task in tasks for sentence in compiling.problems(task, encoder)])
    exact, world, drawings = options.exact_device(where), everyday_worlds(encoder, reading), None
    if objective != "forecast":
        dtype = options.pick_precision(precision, where)
        drawn = settings(*how, checkpoint)
        made = studio.open_studio(checkpoint, encoder, judge, drawn, where, dtype)
        terminal.say_all(drawn.because)
        drawings = trials.Drawings(made, checkpoint, encoder, exact, world, _watched)
    unedited = drawings.shares(None, tasks) if drawings is not None and objective == "balance" else []
    for task, share in zip(tasks, unedited, strict=False):
        terminal.say(f"{task.name}, unedited: {tuned.share(task, share, how[0])}", stderr=True)
    for task in tasks:
        tuned.warn_of_few(task, objective, how[0])
    known = {task.name: task for task in tasks}

    def report(name: str, trial: Trial) -> None:
        before = f"{name}, " if len(tasks) > 1 else ""
        terminal.say(f"{before}{tuned.tried(known[name], trial, objective, how[0])}", stderr=True)

    if drawings is not None and len(tasks) > 1:
        found = tune.balance_all(tasks, drawings, report)
    else:
        (task,) = tasks
        forecasts = trials.Forecasts(checkpoint, encoder, exact, world(task))
        found = [tune.search(task, objective, forecasts, drawings, lambda trial: report(task.name, trial))]
    if objective == "balance" and max(tune.deltas(tasks, found)) >= tune.CLOSE:
        terminal.complain("no value balances all of it; the nearest one is kept.")
    if any(trial.missed for trial in found):
        terminal.complain("no value that was tried meets every threshold; the one that misses fewest is kept.")
    return found, unedited, drawings.pictures if drawings else 0


def _watched(pictures: int) -> AbstractContextManager[Callable[[float], None]]:
    """Progress of one value's pictures: how many values a search tries, nobody knows before it ends."""
    return terminal.progress("drawing", pictures, "pictures for this value")


def _require(tasks: Sequence[Manifest], objective: str) -> None:
    """Refuse manifests on which the objective cannot be measured."""
    from timecli.measuring import objectives

    if len(tasks) > 1 and objective != "balance":
        raise ManifestError("several manifests are tuned together only with --objective balance; name one.")
    for task in tasks:
        if objective == "balance":
            objectives.toward(task)
        else:
            objectives.require_tests(task)
        if len(tasks) > 1 and not task.preserve.world:
            raise ManifestError(f"{task.name} does not preserve everyday prompts; a joint balance needs strengths.")


def _targets(
    paths: Sequence[Path],
    tasks: Sequence[Manifest],
    output: Path | None,
    in_place: bool,
    inputs: Sequence[Path],
    force: bool,
) -> list[Path | None]:
    """Where each manifest goes; refuse what cannot be written before anything is drawn."""
    from timecli.files.targets import check_target, require_no_link
    from timecli.manifests import settings
    from timecli.measuring import objectives

    if in_place and output is not None:
        raise OutputError(f"--in-place writes to the manifests and --output to {output}; choose one.")
    if not in_place and output is None:
        return [None] * len(paths)
    if len(paths) > 1 and output is not None and not output.is_dir():
        raise OutputError(f"{output} is no folder, which several manifests need; make it.")
    found: list[Path | None] = []
    for path, task in zip(paths, tasks, strict=True):
        target = path if output is None else output / path.name if len(paths) > 1 else output
        if output is not None and target != output:
            require_no_link(target)
        check_target(target, [*inputs, *([] if in_place else paths)], force or in_place, 0)
        line = objectives.axis(task)
        settings.written(task, {line.key: line.value(line.least)})
        found.append(target)
    return found


def _write(task: Manifest, path: Path, target: Path | None, value: float, force: bool, in_place: bool) -> None:
    from timecli.files.writing import write_bytes
    from timecli.manifests import settings
    from timecli.manifests.rewriting import rewrite
    from timecli.measuring import objectives

    if target is None:
        return
    line = objectives.axis(task)
    text = settings.written(task, {line.key: value})
    if in_place:
        return rewrite(path, task, text, f"put {line.key} = {value:g} into it yourself")
    write_bytes(target, text.encode(), force, follow=True)
