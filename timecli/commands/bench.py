"""`timecli bench`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timecli.commands import options, terminal
from timecli.commands.comfyui import beside
from timecli.commands.grids import configurations
from timecli.commands.groups import Drawing, Reading, Telling, grouped
from timecli.commands.outputs import require_folder
from timecli.commands.results import report
from timecli.commands.shared import (
    everyday_worlds,
    given,
    judge_folder,
    load_manifest,
    model_last,
    open_model,
    read_encoder,
    refuse,
    require_extra,
    require_readable,
    resumable,
    settle,
    stated,
)
from timecli.errors import OutputError, TimecliError
from timecli.manifests.kinds import MOST_SEEDS
from timecli.shown import amount

if TYPE_CHECKING:
    from timecli.manifests.manifest import Manifest
    from timecli.measuring.edits import Edits
    from timecli.measuring.schedule import Batch, Configuration
    from timecli.measuring.studio import Studio
    from timecli.models.checkpoint import Checkpoint

Folder = Annotated[
    Path, typer.Option("-o", "--output", help="Folder for results, tables and plots; a stopped run goes on there.")
]
Grid = Annotated[
    list[str] | None,
    typer.Option(
        "--grid",
        help="KEY=VALUE,... of lambda, weight, strength, matrices (v, kv), augment (true, false, wordings) or eta; may "
        "be repeated.",
    ),
]
Method = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="manifest (the edits as they are written), time, everyday, uce, finetune or embedit; may be repeated. "
        "[default: manifest]",
    ),
]
Bulk = Annotated[bool, typer.Option("--bulk", help="One joint edit of all manifests.")]
Cross = Annotated[bool, typer.Option("--cross", help="Draw every balance's validation prompt with every edited model.")]
BenchSeeds = Annotated[int, typer.Option("--seeds", min=1, max=MOST_SEEDS, help="Pictures per prompt.")]
Iterations = Annotated[
    int, typer.Option("--iterations", min=1, max=1_000_000, help="Steps of Adam for --method finetune.")
]
ReferenceFolder = Annotated[
    Path | None,
    typer.Option("--reference", help="Pictures with metadata.jsonl (file_name, text): measure FID and CLIP Score."),
]
InceptionFile = Annotated[
    Path | None,
    typer.Option("--inception", help="pytorch-fid's weights (.safetensors): FID in Inception's features."),
]
Pictures = Annotated[
    bool, typer.Option("--pictures", help="Keep the pictures of all prompts, not only of each configuration's worst.")
]
Ray = Annotated[str | None, typer.Option("--ray", help="Draw on a Ray cluster: its address, or local.")]
FILES = (
    "results.jsonl",
    "table.md",
    "report.html",
    "prompts.md",
    "prompts.jsonl",
    "filtered.txt",
    "tradeoff.png",
    "edits.png",
    "cross.png",
)
FOLDERS = ("weights", "pictures")


@grouped
def bench(
    paths: options.ManifestPaths,
    output: Folder,
    grid: Grid = None,
    method: Method = None,
    bulk: Bulk = False,
    cross: Cross = False,
    seeds: BenchSeeds = 24,
    iterations: Iterations = 4000,
    *,
    drawing: Drawing,
    reading: Reading,
    reference: ReferenceFolder = None,
    inception: InceptionFile = None,
    pictures: Pictures = False,
    ray: Ray = None,
    telling: Telling,
) -> None:
    """Measure edits as the paper does: every MANIFEST on MODEL, with a grid of settings, against other methods."""
    manifest_paths, model = model_last(paths, "manifest")
    wanted = configurations(grid or [], method or ["manifest"], bulk)
    require_extra("matplotlib", "bench")
    if reference:
        require_extra("torchmetrics", "bench")
    elif inception:
        raise TimecliError("--inception measures FID, which needs pictures to compare with; give --reference, too.")
    if ray:
        require_extra("ray", "ray")
    from timecli.files.safefile import open_file
    from timecli.manifests import company
    from timecli.measuring import schedule

    model, reading = beside(model, reading, draws=True)
    judge = judge_folder(drawing.judge_path, model)
    inputs = given(manifest_paths, model, judge, reading.config, reading.tokenizer)
    inputs += given(reading.text_encoder, reading.everyday, reference, inception)
    settle(*inputs)
    _check_folder(output, inputs)
    require_readable(reading, drawing.judge_path)
    if reference is not None and not (reference / "metadata.jsonl").is_file():
        raise TimecliError(f"{reference} has no metadata.jsonl; --reference takes an image folder.")
    if inception is not None:
        open_file(inception)
    tasks = [load_manifest(path, reading) for path in manifest_paths]
    company.require_names(tasks)
    schedule.require_one_reading(tasks)
    how = stated(drawing, tasks)
    checkpoint = open_model(model, reading.config, reading.text_encoder)
    _check(checkpoint, tasks, wanted)

    from timecli.drawing import networks, render
    from timecli.editing import compiling
    from timecli.files.staging import alone
    from timecli.measuring import bench as benching
    from timecli.measuring import quality, studio
    from timecli.measuring.edits import Edits

    where = options.pick_device("cpu" if ray else reading.device)  # what travels is put on a device where it arrives
    encoder = read_encoder(checkpoint, reading, where, tasks[0].solve)
    refuse([sentence for task in tasks for sentence in compiling.problems(task, encoder)])
    drawn = render.settings(seeds, *how, checkpoint)
    dtype = options.pick_precision(drawing.precision, where)
    made = studio.open_studio(checkpoint, encoder, judge, drawn, where, dtype, inception)
    terminal.say_all(drawn.because)
    compared = quality.load(reference, made.judge, made.inception) if reference else None
    jobs = schedule.jobs(tasks, wanted, cross)
    captions = compared.captions if compared else ()
    batches = schedule.batches(tasks, jobs, seeds, networks.batch_size(made.pipeline), captions)
    refuse(compiling.too_long(schedule.texts(batches), encoder))
    output.mkdir(parents=True, exist_ok=True)
    with alone(output), resumable():
        head = benching.header(checkpoint, encoder, tasks, made, iterations, compared)
        benching.require_ours(output / benching.RESULTS)
        left = benching.resume(output / benching.RESULTS, head, batches)
        exact, worlds = options.exact_device(where), everyday_worlds(encoder, reading)
        models = {job.model: job for job in jobs}
        edits = Edits(checkpoint, encoder, exact, iterations, worlds, models, head, output / "weights")
        _draw(output / benching.RESULTS, left, edits, made, ray)
        title = f"{amount(len(tasks), 'edit')} on {model.name}: {amount(seeds, 'seed')}, "
        title += "; ".join([f"{amount(drawn.steps, 'step')}, guidance {drawn.guidance:g}", *drawn.because])
        report(output, title, jobs, compared, edits, made, pictures, ray is None, telling.as_json)
    for configuration, times in _times(edits.seconds).items():
        mean = sum(times) / len(times)
        terminal.say(f"{configuration}: {mean:.2f} s to make an edit, mean of {len(times)}", stderr=True)


def _check_folder(output: Path, inputs: Sequence[Path]) -> None:
    """Refuse a folder that is an input, or has files under the names of a bench's and no bench."""
    from timecli.files.targets import require_apart, require_no_link, require_replaceable

    require_folder(output)
    targets = [output / name for name in FILES]
    require_apart(targets, inputs)
    for folder in FOLDERS:
        require_no_link(output / folder)
    for target in targets:
        require_no_link(target)
        require_replaceable(target, force=True)
        if target.exists() and not targets[0].exists():
            raise OutputError(f"{target} already exists and no bench wrote it; choose another folder.")


def _check(checkpoint: Checkpoint, tasks: Sequence[Manifest], wanted: Sequence[Configuration]) -> None:
    """Refuse what cannot be measured before anything is drawn."""
    from timecli.measuring.schedule import TRAINED
    from timecli.models.carried import require_unedited
    from timecli.models.maps import require_maps

    require_unedited(checkpoint, "give the original")
    for task in tasks:
        require_maps(checkpoint, task.solve.matrices, task.solve.layers)
    for one in wanted:
        if one.method == "manifest" and one.weight is not None:
            for task in (task for task in tasks if task.preserve.everyday is False):
                raise TimecliError(f"{task.name} does not preserve everyday prompts; --grid weight needs that.")
        if len(checkpoint.texts) != 1 and one.method in TRAINED:
            raise TimecliError(
                f"{checkpoint.path} has not one CLIP text encoder; --method {one.method} is for models that have."
            )


def _draw(results: Path, left: Sequence[Batch], edits: Edits, made: Studio, ray: str | None) -> None:
    """Draw and judge what is left to do."""
    from timecli.measuring import bench as benching

    with terminal.progress("drawing", benching.pictures(left, len(made.settings.seeds))) as tick:
        if ray is None:
            return benching.run(results, edits.head, benching.here(left, edits, made.judged, tick))
        from timecli.measuring import cluster

        benching.run(results, edits.head, cluster.there(ray, made, left, edits, tick))


def _times(seconds: dict[str, float]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for model, time in seconds.items():
        found.setdefault(model.split("/")[0], []).append(time)
    return found
