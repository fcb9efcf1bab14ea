"""`timecli tune`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timecli.commands import options, terminal
from timecli.commands.groups import Drawing, Reading, Telling, grouped
from timecli.commands.shared import (
    everyday_worlds,
    given,
    judge_folder,
    model_last,
    open_model,
    read_encoder,
    refuse,
    require_readable,
    settings_of,
    settle,
    with_clip_skip,
)
from timecli.errors import ManifestError, OutputError
from timecli.manifests.kinds import MOST_SEEDS

if TYPE_CHECKING:
    from timecli.manifests.manifest import Manifest
    from timecli.measuring.objectives import Axis
    from timecli.measuring.tune import Trial

Output = Annotated[Path | None, typer.Option("-o", "--output", help="Tuned manifest; of several, their folder.")]
InPlace = Annotated[bool, typer.Option("--in-place", help="Write the value into MANIFEST itself; comments stay.")]
Objective = Annotated[
    str,
    typer.Option(
        "--objective",
        help="harmonic (of generality, specificity and kept), forecast (the same, without drawing), or balance (of two "
        "descriptions; of several manifests jointly).",
    ),
]
TuneSeeds = Annotated[int, typer.Option("--seeds", min=1, max=MOST_SEEDS, help="Pictures per prompt.")]


@grouped
def tune(
    paths: options.ManifestPaths,
    output: Output = None,
    in_place: InPlace = False,
    objective: Objective = "harmonic",
    seeds: TuneSeeds = 24,
    *,
    drawing: Drawing,
    reading: Reading,
    force: options.Force = False,
    telling: Telling,
) -> None:
    """Find the strength for MANIFEST by drawing with MODEL; λ, where the everyday world is not preserved."""
    manifest_paths, model = model_last(paths, "manifest")
    from timecli.manifests import manifest as manifests
    from timecli.measuring import objectives, schedule
    from timecli.models.checkpoint import require_layers, require_unedited

    options.choice(objective, "--objective", objectives.OBJECTIVES)
    tasks = [with_clip_skip(manifests.load(path), reading.clip_skip) for path in manifest_paths]
    judge = judge_folder(drawing.judge_path, model)
    settle(model, *given(reading.config, reading.text_encoder, judge))
    _require(tasks, objective)
    inputs = given(model, reading.config, reading.tokenizer, reading.text_encoder, reading.everyday, judge)
    targets = _targets(manifest_paths, tasks, output, in_place, inputs, force)
    schedule.require_one_clip_skip(tasks)
    require_readable(reading, drawing.judge_path)
    checkpoint = open_model(model, reading.config, reading.text_encoder)
    require_unedited(checkpoint, "give the original")
    for task in tasks:
        require_layers(checkpoint, task.solve.layers)

    from timecli.editing import compiling
    from timecli.measuring import studio, trials, tune

    where = options.pick_device(reading.device)
    encoder = read_encoder(checkpoint, reading, where, tasks[0].solve.clip_skip)
    refuse([sentence for task in tasks for sentence in compiling.problems(task, encoder)])
    exact, world = options.exact_device(where), everyday_worlds(encoder, reading)
    drawings = None
    if objective != "forecast":
        how = settings_of(drawing, seeds, tasks)
        dtype = options.pick_precision(drawing.precision, where)
        made = studio.open_studio(checkpoint, encoder, judge, how, where, dtype)
        drawings = trials.Drawings(made, encoder, exact, world)
    if drawings is not None and len(tasks) > 1:
        found = tune.balance_all(tasks, drawings, _say_share)
    else:
        forecasts = trials.forecasts(tasks[0], checkpoint, encoder, exact, world(tasks[0]))
        trial = tune.search(tasks[0], objective, forecasts, drawings, _saying(objectives.axis(tasks[0])))
        found = [(trial.value, trial.score)]
    if objective == "balance" and tune.worst(tasks, found) >= tune.CLOSE:
        terminal.complain("no value balances all of it; what comes nearest is kept.")
    for task, path, target, (value, _) in zip(tasks, manifest_paths, targets, found, strict=True):
        _write(task, path, target, value, force or in_place, in_place)
    _say(tasks, found, objective, drawings.pictures if drawings else 0, [t for t in targets if t], telling.as_json)


def _require(tasks: Sequence[Manifest], objective: str) -> None:
    """Refuse manifests on which the objective cannot be measured."""
    from timecli.measuring import objectives

    if len(tasks) > 1 and objective != "balance":
        raise ManifestError("several manifests are tuned jointly, which is for --objective balance; name one alone.")
    for task in tasks:
        if objective == "balance":
            objectives.toward(task)
        else:
            objectives.require_tests(task)
        if len(tasks) > 1 and task.preserve.everyday is False:
            raise ManifestError(f"{task.name} does not preserve the everyday world; a joint balance needs strengths.")


def _targets(
    paths: Sequence[Path],
    tasks: Sequence[Manifest],
    output: Path | None,
    in_place: bool,
    inputs: Sequence[Path],
    force: bool,
) -> list[Path | None]:
    """Where each manifest goes; refuse what cannot be written before anything is drawn."""
    from timecli.files.targets import check_target
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
        check_target(target, [*inputs, *([] if in_place else paths)], force or in_place, 0)
        line = objectives.axis(task)
        settings.written(task, {line.key: line.value(line.least)})
        found.append(target)
    return found


def _write(task: Manifest, path: Path, target: Path | None, value: float, replace: bool, in_place: bool) -> None:
    from timecli.files.writing import write_bytes
    from timecli.manifests import manifest as manifests
    from timecli.manifests import settings
    from timecli.measuring import objectives

    if target is None:
        return
    line = objectives.axis(task)
    if in_place and manifests.load(path).text != task.text:
        raise OutputError(f"{path} changed meanwhile and stays; put {line.key} = {value:g} into it yourself.")
    write_bytes(target, settings.written(task, {line.key: value}).encode(), replace)


def _saying(line: Axis) -> Callable[[Trial], None]:
    def report(trial: Trial) -> None:
        terminal.say(f"{line.key} {trial.value:g}: {trial.score:.1%}", stderr=True)

    return report


def _say_share(name: str, trial: Trial) -> None:
    terminal.say(f"{name}, strength {trial.value:g}: {trial.score:.1%}", stderr=True)


def _say(
    tasks: Sequence[Manifest],
    found: Sequence[tuple[float, float]],
    objective: str,
    pictures: int,
    written: Sequence[Path],
    as_json: bool,
) -> None:
    from timecli.measuring import objectives

    rows = [
        {"manifest": task.name, objectives.axis(task).key: value, "score": score}
        for task, (value, score) in zip(tasks, found, strict=True)
    ]
    about = {"objective": objective, "pictures": pictures, "written": list(map(str, written))}
    if as_json:
        return terminal.print_json("tune", {**rows[0], **about} if len(rows) == 1 else {"manifests": rows, **about})
    for task, (value, score) in zip(tasks, found, strict=True):
        terminal.say(f"{task.name}: {objectives.axis(task).key} {value:g}, {objective} {score:.1%}")
    terminal.say(f"{pictures} pictures drawn")
    terminal.print_written(list(map(str, written)))
