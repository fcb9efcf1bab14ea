"""Every prompt of a bench: how far it was forecast to go, beside what was drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

import torch

from timecli.drawing.likeness import between_seeds, likeness
from timecli.drawing.report import FORMS, number
from timecli.editing.forecast import shown
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import Row
from timecli.measuring.bench import Answers
from timecli.measuring.edits import Shares
from timecli.measuring.schedule import BASE, Job, tested
from timecli.shown import in_markdown, table_row

HALF = 0.5
"""A prompt shows its destination where so many of its pictures do."""


@dataclass(frozen=True)
class Drawn:
    """What became of one prompt.

    Attributes:
        configuration, edit: what was done to the model, and whose prompt it is.
        forecast: how far it goes to its destination, from text alone; None for a method that has no operator.
        shown: the share of its pictures that show the destination.
        likeness: mean cosine to the pictures that are wanted: kept or reached.
        another_seed: the same between one seed and the next of the unedited model; None of one seed.
    """

    configuration: str
    edit: str
    kind: str
    prompt: str
    destination: str
    forecast: float | None
    shown: float
    likeness: float | None
    another_seed: float | None


def collect(
    work: Sequence[Job],
    answers: Answers,
    seen: Mapping[tuple[str, str], torch.Tensor],
    forecasts: Mapping[str, Shares],
) -> list[Drawn]:
    """Every prompt of every edited model that has a destination; `forecasts` is by model."""
    return [
        _drawn(job, manifest, row, answers, seen, forecasts.get(job.model, {}))
        for job in work
        for manifest in job.tested
        for row in tested(manifest, job.manifest.edits)
    ]


def _drawn(
    job: Job,
    manifest: Manifest,
    row: Row,
    answers: Answers,
    seen: Mapping[tuple[str, str], torch.Tensor],
    shares: Shares,
) -> Drawn:
    pair = (row.prompt, row.destination or "")
    like = likeness(row, lambda prompt: seen[BASE, prompt], lambda prompt: seen[job.model, prompt])
    other = between_seeds(row, lambda prompt: seen[BASE, prompt])
    return Drawn(
        job.configuration.name,
        manifest.name,
        row.kind,
        *pair,
        _rounded(shares.get(pair)),
        fmean(answers[job.model, row.prompt, pair]),
        _rounded(fmean(like) if like else None),
        _rounded(fmean(other) if other else None),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def lines(found: Sequence[Drawn]) -> str:
    """One line of JSON for each."""
    return "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found)


def by_configuration(found: Sequence[Drawn]) -> dict[str, list[Drawn]]:
    """What stands in one table."""
    tables: dict[str, list[Drawn]] = {}
    for one in found:
        tables.setdefault(one.configuration, []).append(one)
    return tables


def agreement(found: Sequence[Drawn]) -> Iterator[str]:
    """How good the forecasts are, as a table: AUC, and the error of the share that is forecast to show it."""
    if not any(one.forecast is not None for one in found):
        return
    yield from ("## Forecast and drawn", "")
    yield from ("| | prompts | AUC | mean error of the forecast share |", "|---|---|---|---|")
    for name, own in by_configuration(found).items():
        told = [(one.forecast, one.shown) for one in own if one.forecast is not None]
        if told:
            error = fmean(abs(shown(share) - drawn) for share, drawn in told)
            area = auc([share for share, drawn in told if drawn >= HALF], [s for s, drawn in told if drawn < HALF])
            yield f"| {name} | {len(told)} | {'-' if area is None else f'{area:.3f}'} | {error:.3f} |"
    yield ""
    yield "AUC: how often, of a prompt that shows its destination on half of its pictures or more and one that does"
    yield "not, the first has the larger forecast; the forecast share is what `timecli plan` says of the pictures."
    yield ""


def auc(larger: Sequence[float], smaller: Sequence[float]) -> float | None:
    """The share of pairs in which the one is larger, ties counting half; None without pairs."""
    if not larger or not smaller:
        return None
    return fmean((one > other) + 0.5 * (one == other) for one in larger for other in smaller)


def page(title: str, found: Sequence[Drawn]) -> str:
    """Every prompt in a table for each configuration."""
    text = [f"# {in_markdown(title)}", ""]
    head = ("edit", "kind", "prompt", "destination", "forecast", "shows it", "kept or reached", "another seed")
    for name, own in by_configuration(found).items():
        text += [f"## {name}", "", table_row(*head), "|---" * len(head) + "|"]
        text += [table_row(*_cells(one)) for one in own]
        text.append("")
    return "\n".join(text).rstrip() + "\n"


def _cells(one: Drawn) -> list[str]:
    words = [in_markdown(text) for text in (one.edit, one.kind, one.prompt, one.destination)]
    return [*words, *(number(asdict(one), key) for key in FORMS)]
