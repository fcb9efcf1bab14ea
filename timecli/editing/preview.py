"""What an edit will do, from text alone: a manifest's prompts, the everyday world, and what to do about misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from timecli.editing import compiling, forecast
from timecli.editing.delta import Delta
from timecli.manifests.manifest import Manifest, folded
from timecli.manifests.rows import EVERYDAY, FOLLOW, FOLLOWED, METRICS, Row, below, everyday_rows, figure, of_part, rows
from timecli.manifests.words import names, speaks_of
from timecli.models.maps import Network
from timecli.models.streams import POOLED, TEXT
from timecli.text.everyday import Everyday
from timecli.text.readers import TextEncoder

NEIGHBOUR = 0.5
"""A prompt that should stay and of whose pictures so many will show the destination is a miss, as is its opposite."""


@dataclass(frozen=True)
class Forecast:
    """What will become of one row.

    Attributes:
        row: the prompt.
        share: how far it goes to its destination; None without one, or without a word in common with it.
        shown: the share of its pictures that will show the destination.
        pooled: how far the vector for the whole prompt goes; None where the network is given none.
        kept: of a prompt without a destination, how like itself its picture will stay.
    """

    row: Row
    share: float | None
    shown: float | None
    pooled: float | None = None
    kept: float | None = None

    @property
    def missed(self) -> bool:
        """Whether most pictures will show what is not wanted."""
        if self.shown is None or not self.row.counts:
            return False
        return (self.shown >= NEIGHBOUR) != (self.row.kind in FOLLOW)


@dataclass(frozen=True)
class Preview:
    """A manifest on a model, before anything is drawn.

    Attributes:
        forecasts: of every row.
        metrics: forecast efficacy, generality, specificity and explicit, of those that have rows, kept, worst and
            reached.
        everyday: how far the everyday prompts move, ‖D c‖_M / ‖c‖_M at their end token, on average; None without them.
        empty: the same for the empty prompt.
        most: the everyday prompts that move most, beside those that have a source's words.
        worst: the one of them whose picture is forecast to change most.
    """

    forecasts: tuple[Forecast, ...]
    metrics: dict[str, float]
    everyday: float | None
    empty: float
    most: tuple[tuple[str, float], ...]
    worst: str | None = None


def preview(
    manifest: Manifest, checkpoint: Network, encoder: TextEncoder, delta: Delta, world: Everyday | None
) -> Preview:
    """Forecast every row of a manifest.

    Args:
        manifest: the edits and their tests.
        checkpoint: the model.
        encoder: the model's.
        delta: the manifest, compiled.
        world: the everyday prompts.
    """
    metric = forecast.metric(checkpoint, delta.origin, encoder)
    table = rows(manifest)
    asked = [(row.prompt, row.destination) for row in table]
    shares = forecast.told(asked, encoder, delta.operator, metric)
    vectors = _pooled(asked, checkpoint, encoder, delta)
    bare = [row.prompt for row in table if row.destination is None]
    kept = dict(zip(bare, forecast.kept(bare, encoder, delta.operator, metric), strict=True))
    found = [
        Forecast(
            row,
            share,
            None if share is None else forecast.shown(share),
            vector,
            kept[row.prompt] if row.destination is None else None,
        )
        for row, share, vector in zip(table, shares, vectors, strict=True)
    ]
    metrics = _metrics(found)
    end = encoder.own("")[-1]
    empty = encoder.embed([""], end + 1)[0][end:]
    moved: float | None = None
    worst: str | None = None
    most: tuple[tuple[str, float], ...] = ()
    if world is not None:
        lengths = forecast.moves(world.ends[TEXT], delta.operator, metric)
        moved, most = float(lengths.mean()), _most(manifest, world, lengths)
        if most:
            prompts = [prompt for prompt, _ in most]
            metrics["worst"], worst = min(
                zip(forecast.kept(prompts, encoder, delta.operator, metric), prompts, strict=True)
            )
    stay = [row.prompt for row in table if row.counts and row.kind not in FOLLOW]
    listed = world.prompts if world else compiling.listed(manifest, encoder)
    stay += [row.prompt for row in everyday_rows(listed, table, [prompt for prompt, _ in most])]
    if stay:
        metrics["kept"] = fmean(forecast.kept(stay, encoder, delta.operator, metric))
    follow = [(row.prompt, row.destination or "") for row in table if row.kind in FOLLOW]
    if reached := forecast.reached(follow, encoder, delta.operator, metric):
        metrics["reached"] = fmean(reached)
    return Preview(tuple(found), metrics, moved, float(forecast.moves(empty, delta.operator, metric)), most, worst)


def _pooled(
    asked: Sequence[tuple[str, str | None]], checkpoint: Network, encoder: TextEncoder, delta: Delta
) -> list[float | None]:
    """How far the vectors go, of those of which it can be told."""
    for reader in encoder.readers:
        if reader.stream == POOLED and POOLED in delta.operators:
            metric = forecast.metric(checkpoint, delta.origin, reader)
            return forecast.told(asked, reader, delta.operators[POOLED], metric)
    return [None] * len(asked)


def _metrics(found: Sequence[Forecast]) -> dict[str, float]:
    """Each metric as a mean over the rows that it looks at."""
    metrics = {}
    for name, kind in METRICS.items():
        chosen = [one.shown for one in found if one.row.kind == kind and one.shown is not None]
        if chosen:
            metrics[name] = fmean(chosen) if kind in FOLLOW else 1 - fmean(chosen)
    return metrics


def moving(
    manifest: Manifest, checkpoint: Network, encoder: TextEncoder, deltas: Sequence[Delta], world: Everyday | None
) -> list[str]:
    """The everyday prompts that some edits move most, and that do not speak of what is edited; none without a world."""
    if world is None:
        return []
    lengths = [
        forecast.moves(world.ends[TEXT], delta.operator, forecast.metric(checkpoint, delta.origin, encoder))
        for delta in deltas
    ]
    return [prompt for prompt, _ in _most(manifest, world, torch.stack(lengths).amax(0))]


def _most(manifest: Manifest, world: Everyday, lengths: torch.Tensor) -> tuple[tuple[str, float], ...]:
    """The everyday prompts that move most and do not speak of what is edited: nobody thought of them."""
    known = {folded(text) for row in rows(manifest) for text in (row.prompt, row.destination or "")}
    named = names(*(edit.source for edit in manifest.edits))
    order = torch.argsort(lengths, descending=True).tolist()
    found = []
    for i in order:
        prompt = world.prompts[i]
        if prompt and folded(prompt) not in known and not speaks_of(prompt, named):
            found.append((prompt, float(lengths[i])))
    return tuple(found[:EVERYDAY])


def _most_forecast(metric: str) -> float:
    """The forecast where what follows arrives and what stays does not move: the curve of shares does not reach 1."""
    if metric not in METRICS:
        return 1.0
    return forecast.shown(1.0) if metric in FOLLOWED else 1 - forecast.shown(0.0)


def missed(manifest: Manifest, seen: Preview) -> list[str]:
    """Sentences for the manifest's thresholds that the forecast does not reach; of a joint edit, each one's own."""
    found = []
    for part in manifest.parts or (manifest,):
        own = of_part([one.row for one in seen.forecasts], part, manifest)
        metrics = {**seen.metrics, **_metrics([one for one in seen.forecasts if one.row in own])}
        for name, value in metrics.items():
            wanted = getattr(part.verify, name)
            if wanted is not None and value < wanted:
                most = _most_forecast(name)
                beyond = f"no forecast at strength 1 is above {figure(name, most)}: lower the threshold"
                remedy = beyond if wanted > most else None
                found.append(f"forecast {below(name, value, wanted, part.name, worst=seen.worst, remedy=remedy)}")
    return found


@dataclass(frozen=True)
class Advice:
    """What to do about a miss: a pair to add, or prompts to preserve."""

    sentence: str
    pair: tuple[str, str] | None = None
    preserve: str | None = None


def advice(manifest: Manifest, found: Sequence[Forecast]) -> list[Advice]:
    """What to do about every miss."""
    meant, sources = _meant(manifest), {folded(edit.source) for edit in manifest.edits}
    kept = {folded(prompt) for prompt in manifest.preserve.prompts}
    result: dict[str, Advice] = {}
    for one in found:
        row = one.row
        if not one.missed or row.destination is None or one.share is None:
            continue
        if row.kind in FOLLOW and max(one.share, 0.0) >= forecast.HALF * meant[folded(row.prompt)]:
            continue
        far = f"{row.prompt!r} goes {one.share:.0%} of the way"
        if row.kind == "source":
            less = "preserve.everyday_weight" if manifest.preserve.world else "lambda"
            made = Advice(f"{far}: raise its strength, or lower {less}.")
        elif row.kind == "positive" and folded(row.prompt) in sources:
            made = Advice(f"{far}: it is a pair already; raise its strength.")
        elif row.kind == "positive":
            made = Advice(f"{far}: add the pair {row.prompt} -> {row.destination}.", pair=(row.prompt, row.destination))
        elif folded(row.prompt) in kept:
            made = Advice(f"{far}: it is preserved already; raise preserve.weight, or lower the strength.")
        else:
            made = Advice(f"{far}: add it to preserve.prompts.", preserve=row.prompt)
        result.setdefault(folded(row.prompt), made)
    return list(result.values())


def _meant(manifest: Manifest) -> dict[str, float]:
    """By prompt, how far what follows is meant to go: as its edit's strength says where no threshold asks for more."""
    whole = any(getattr(manifest.verify, metric) is not None for metric in FOLLOWED)
    found: dict[str, float] = {}
    for edit in manifest.edits:
        share = 1.0 if whole else min(manifest.strength(edit), 1.0)
        for prompt in (edit.source, *(test.prompt for test in edit.positives)):
            found[folded(prompt)] = max(found.get(folded(prompt), 0.0), share)
    return found
