"""`timecli tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timecli.commands import options, terminal
from timecli.commands.groups import Drawing, Reading, grouped
from timecli.commands.shared import choose_output, given, judge_folder, open_model, refuse, settle, with_clip_skip
from timecli.errors import OutputError
from timecli.manifests.kinds import MOST_SEEDS

if TYPE_CHECKING:
    from timecli.measuring.tune import Trial

Output = Annotated[Path | None, typer.Option("-o", "--output", help="Tuned manifest.")]
InPlace = Annotated[bool, typer.Option("--in-place", help="Write λ into MANIFEST itself; comments stay.")]
Objective = Annotated[
    str, typer.Option("--objective", help="harmonic (generality and specificity), or balance (of two descriptions).")
]
TuneSeeds = Annotated[int, typer.Option("--seeds", min=1, max=MOST_SEEDS, help="Pictures per prompt.")]


@grouped
def tune(
    manifest_path: options.ManifestPath,
    model: options.ModelPath,
    output: Output = None,
    in_place: InPlace = False,
    objective: Objective = "harmonic",
    seeds: TuneSeeds = 24,
    *,
    drawing: Drawing,
    reading: Reading,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Find λ for MANIFEST by drawing with MODEL, and write it into the manifest."""
    from timecli.drawing import render
    from timecli.editing import applying, compiling
    from timecli.files.targets import check_target
    from timecli.files.writing import write_bytes
    from timecli.manifests import manifest as manifests
    from timecli.measuring import studio, tables, tune
    from timecli.text import encoding

    options.choice(objective, "--objective", tune.OBJECTIVES)
    manifest, where = (
        with_clip_skip(manifests.load(manifest_path), reading.clip_skip),
        options.pick_device(reading.device),
    )
    rises = tune.rises(manifest) if objective == "balance" else False
    if objective == "harmonic":
        tune.require_tests(manifest)
    target, judge = choose_output(manifest_path, output, in_place), judge_folder(drawing.judge_path, model)
    settle(model, *given(reading.config, reading.text_encoder, judge))
    if target is not None:
        inputs = given(model, reading.config, reading.tokenizer, reading.text_encoder, reading.everyday, judge)
        inputs += given(None if in_place else manifest_path)
        check_target(target, inputs, force or in_place, 0)
        tune.written(manifest, manifest.solve.lam)  # refused before anything is drawn
    checkpoint = open_model(model, reading.config, reading.text_encoder)
    applying.require_unedited(checkpoint, "give the original")
    applying.require_layers(checkpoint, manifest.solve.layers)
    encoder = encoding.read_text_encoder(checkpoint, reading.tokenizer, where, manifest.solve.clip_skip)
    refuse(compiling.problems(manifest, encoder))
    exact = options.exact_device(where)
    settings = render.Settings(tuple(range(seeds)), drawing.steps, drawing.guidance)
    made = studio.open_studio(checkpoint, encoder, judge, settings, where)
    drawings = tune.Drawings(made, manifest, encoder, exact)
    first = tune.start(manifest, encoder, exact, tune.START[objective])

    def report(trial: Trial) -> None:
        terminal.say(f"lambda {trial.lam:g}: {trial.score:.1%}", stderr=True)

    if objective == "balance" and manifest.balance:
        best = tune.balance(first, drawings.share, report, manifest.balance.target, rises)
        if tables.distance(best.score, manifest.balance.target) >= tune.CLOSE:
            terminal.complain(f"no lambda balances {manifest.name}; {best.lam:g} comes nearest.")
    else:
        best = tune.harmonic(first, drawings.mean, report)
    if target is not None:
        if in_place and manifests.load(manifest_path).text != manifest.text:
            raise OutputError(
                f"{manifest_path} changed meanwhile and stays; put lambda = {best.lam:g} into it yourself."
            )
        write_bytes(target, tune.written(manifest, best.lam).encode(), force or in_place)
    found = {"lambda": best.lam, "objective": objective, "score": best.score, "pictures": drawings.pictures}
    found |= {"written": [str(target)] if target else []}
    if as_json:
        return terminal.print_json(found)
    terminal.say(
        f"{manifest.name}: lambda {best.lam:g}, {objective} {best.score:.1%}, {drawings.pictures} pictures drawn"
    )
    if target is not None:
        terminal.print_written([str(target)])
