"""`timecli plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from timecli.commands import options, terminal
from timecli.commands.cautions import harm
from timecli.commands.comfyui import beside
from timecli.commands.groups import Reading, Telling, Trying, grouped
from timecli.commands.shared import (
    everyday_world,
    load_together,
    manifests_first,
    open_model,
    read_encoder,
    refuse,
    require_readable,
)
from timecli.commands.summaries import warn_of_condition
from timecli.errors import ManifestError, OutputError, TimecliError
from timecli.shown import amount

if TYPE_CHECKING:
    import torch

    from timecli.editing.delta import Delta
    from timecli.editing.preview import Advice, Forecast, Preview
    from timecli.manifests.keys import Edit
    from timecli.manifests.manifest import Manifest
    from timecli.models.checkpoint import Checkpoint
    from timecli.text.everyday import Everyday
    from timecli.text.readers import TextEncoder

Pairs = Annotated[bool, typer.Option("--pairs", help="Show how the tokens of sources and destinations are paired.")]
MOST = 5
"""Everyday prompts that are named."""
Fix = Annotated[bool, typer.Option("--fix", help="Write what is advised into MANIFEST; comments stay.")]


@dataclass(frozen=True)
class Seen:
    """A preview with what follows from it."""

    delta: Delta
    preview: Preview
    conflicts: list[str]
    harm: list[str]
    advice: list[Advice]
    missed: list[str]


@grouped
def plan(
    paths: options.PlannedPaths,
    pairs: Pairs = False,
    fix: Fix = False,
    *,
    reading: Reading,
    trying: Trying,
    telling: Telling,
) -> None:
    """Forecast what MANIFEST does to MODEL, from text alone; exit with 1 if it harms the rest or misses a threshold."""
    from timecli.text.uisyntax import cautions

    manifest_paths, models = manifests_first(paths)
    if len(models) > 1:
        raise ManifestError(f"{models[0]} and {models[1]} are two models; give manifests (.toml), and one model last.")
    model = models[0] if models else None
    manifest = load_together(manifest_paths, reading, trying)
    if pairs and telling.as_json:
        raise OutputError("--pairs and --json are two forms of output; choose one.")
    if fix and trying.values():
        raise ManifestError(
            "--fix writes into MANIFEST, which has other values; first write the values that you try there."
        )
    if fix and len(manifest_paths) > 1:
        raise ManifestError(f"--fix writes into one manifest, and {len(manifest_paths)} are given; name one alone.")
    if model is None:
        if fix or pairs:
            raise ManifestError("--fix and --pairs need a model's text encoder; name MODEL after MANIFEST.")
        terminal.warn_all(cautions(manifest))
        return _say_valid(manifest_paths, manifest, telling.as_json)
    require_readable(reading)
    model, reading = beside(model, reading)
    checkpoint = open_model(model, reading.config, reading.text_encoder)
    refuse(_unfit(manifest, checkpoint))
    where = options.pick_device(reading.device)
    encoder = read_encoder(checkpoint, reading, where, manifest.solve)
    terminal.warn_all(cautions(manifest, encoder))
    if pairs:
        terminal.print_pairs(manifest, encoder)
    refuse(_refusals(manifest, encoder))
    world = everyday_world(manifest, encoder, reading)
    seen = _look(manifest, checkpoint, encoder, where, world)
    if fix and _fixed(manifest_paths[0], manifest, seen.advice):
        manifest = load_together(manifest_paths, reading)
        seen = _look(manifest, checkpoint, encoder, where, world)
    terminal.print_json("plan", _data(manifest, seen)) if telling.as_json else _print(manifest, seen)
    warn_of_condition(seen.delta.operator.condition)
    terminal.warn_all(seen.conflicts)
    for sentence in (*seen.harm, *seen.missed):
        terminal.complain(sentence)
    raise typer.Exit(1 if seen.harm or seen.missed else 0)


def _look(
    manifest: Manifest, checkpoint: Checkpoint, encoder: TextEncoder, where: torch.device, world: Everyday | None
) -> Seen:
    from timecli.editing import applying, compiling, conflicts, preview
    from timecli.manifests.rows import untested

    exact = options.exact_device(where)
    delta = compiling.compile_edit(manifest, checkpoint, encoder, exact, world)
    found = preview.preview(manifest, checkpoint, encoder, delta, world)
    advised = preview.advice(manifest, found.forecasts)
    against = conflicts.conflicts(manifest, checkpoint, encoder, delta)
    against += untested(manifest, [one.row for one in found.forecasts])
    drift = compiling.drift(world, delta.operator) if world else None
    changes = () if world else applying.edit_matrices(checkpoint, [delta], exact).changes
    return Seen(delta, found, against, harm(manifest.name, drift, changes), advised, preview.missed(manifest, found))


def _unfit(manifest: Manifest, checkpoint: Checkpoint) -> list[str]:
    """Everything for which `edit` would refuse this model."""
    from timecli.models.carried import require_unedited
    from timecli.models.maps import require_maps

    found = []
    checks = (
        partial(require_unedited, checkpoint),
        partial(require_maps, checkpoint, manifest.solve.matrices, manifest.solve.layers),
    )
    for check in checks:
        try:
            check()
        except TimecliError as error:
            found.append(str(error))
    return found


def _refusals(manifest: Manifest, encoder: TextEncoder) -> list[str]:
    """Everything for which `edit` would refuse this manifest with this model's text encoder."""
    from timecli.editing import compiling

    return compiling.problems(manifest, encoder)


def _fixed(path: Path, manifest: Manifest, advised: list[Advice]) -> bool:
    """Write what is advised into the manifest's file; whether there is anything to add."""
    from timecli.manifests.additions import added
    from timecli.manifests.rewriting import rewrite

    pairs = [one.pair for one in advised if one.pair]
    kept = [one.preserve for one in advised if one.preserve]
    if not pairs and not kept:
        terminal.say(f"nothing to fix: no pair or prompt to add is advised, and {path} stays.", stderr=True)
        return False
    rewrite(path, manifest, added(manifest, pairs, kept), "run the same command again")
    terminal.say(f"wrote what is advised into {path}; with it:", stderr=True)
    return True


def _say_valid(paths: Sequence[Path], manifest: Manifest, as_json: bool) -> None:
    count = len(manifest.edits)
    if as_json:
        return terminal.print_json("plan", {"manifest": manifest.name, "edits": count})
    terminal.say(f"{', '.join(map(str, paths))}: {manifest.name} is valid, {amount(count, 'edit')}.")
    terminal.say("its prompts were not tried; name a model to see what it will do.", stderr=True)


def _data(manifest: Manifest, seen: Seen) -> dict[str, Any]:
    """What was found, for a machine."""
    found = seen.preview
    return {
        "manifest": manifest.name,
        "rank": seen.delta.operator.rank,
        "condition": seen.delta.operator.condition,
        "forecasts": [
            {"kind": one.row.kind, "prompt": one.row.prompt, "destination": one.row.destination}
            | {"share": one.share, "shown": one.shown, "pooled": one.pooled, "kept": one.kept}
            for one in found.forecasts
        ],
        "strengths": [
            {"source": edit.source, "strength": manifest.strength(edit), "factor": own, "wordings": others}
            for edit, own, others in _factors(manifest, seen.delta)
        ],
        "metrics": found.metrics,
        "everyday": {
            "moved": found.everyday,
            "empty": found.empty,
            "most": [{"prompt": prompt, "moved": moved} for prompt, moved in found.most],
        },
        "conflicts": seen.conflicts,
        "harm": seen.harm,
        "advice": [one.sentence for one in seen.advice],
        "missed": seen.missed,
    }


def _factors(manifest: Manifest, delta: Delta) -> list[tuple[Edit, float | None, float | None]]:
    """σ of every edit's source and of its other wordings, if it has any; without the everyday world there is none."""
    from timecli.text.pairing import parts

    found: list[list[float | None]] = [[] for _ in manifest.edits]
    for part, factor in zip(parts(manifest), delta.origin.factors, strict=False):
        found[part.number].append(factor)
    both = ([*own, None, None] for own in found)
    return [(edit, own, others) for edit, (own, others, *_) in zip(manifest.edits, both, strict=True)]


def _print(manifest: Manifest, seen: Seen) -> None:
    """A table with a bar for every prompt, the metrics, the everyday world, and what to do."""
    from timecli.manifests.rows import TOLD, figure

    found = seen.preview
    head = ("kind", "prompt", "", "of the way", "of pictures")
    pooled = any(one.pooled is not None for one in found.forecasts)
    vectors = [("" if one.pooled is None else f"{one.pooled:.0%}",) if pooled else () for one in found.forecasts]
    cells = [(*_cells(one), *more) for one, more in zip(found.forecasts, vectors, strict=True)]
    terminal.print_table((*head, "pooled vector") if pooled else head, cells)
    terminal.say("of the way: 0% stays, 100% arrives at the destination; of pictures: how many will show it")
    if seen.delta.origin.factors:
        said = [
            f"{edit.source!r} {manifest.strength(edit):g} (factor {own:.2f}"
            + (f", of its other wordings {others:.2f})" if others else ")")
            for edit, own, others in _factors(manifest, seen.delta)
        ]
        terminal.say(f"strengths, with the factors that keep them: {', '.join(said)}")
    if told := [one.share for one in found.forecasts if one.row.kind == TOLD and one.share is not None]:
        far = f"they go {sum(told) / len(told):.0%} of the way on average"
        terminal.say(f"edited by another pair, and not counted: {amount(len(told), 'prompt')}; {far}")
    for name, value in found.metrics.items():
        wanted = getattr(manifest.verify, name)
        asked = "" if wanted is None else f", {figure(name, wanted)} asked for"
        terminal.say(f"forecast {name}: {figure(name, value)}{asked}")
    if found.everyday is None:
        terminal.say(
            f"the empty prompt moves by {found.empty:.1%}, as the edited matrices see it; everyday prompts are not "
            "preserved"
        )
    else:
        moved = f"{found.everyday:.1%} on average, the empty prompt by {found.empty:.1%}"
        terminal.say(f"everyday prompts move by {moved}, as the edited matrices see them")
        terminal.say(
            "those that move most: " + ", ".join(f"{prompt!r} {moved:.0%}" for prompt, moved in found.most[:MOST])
        )
    for one in seen.advice:
        terminal.say(one.sentence)


def _cells(one: Forecast) -> tuple[str, ...]:
    """A row of the table; what most pictures will get wrong is marked."""
    if one.kept is not None:
        return (one.row.kind, one.row.prompt, "", "", f"kept {one.kept:.3f}")
    if one.share is None or one.shown is None:
        return (one.row.kind, one.row.prompt, "", "", "")
    full = round(10 * min(max(one.share, 0), 1))
    mark = " <-" if one.missed else ""
    return (one.row.kind, one.row.prompt, "█" * full + "·" * (10 - full), f"{one.share:.0%}", f"{one.shown:.0%}{mark}")
