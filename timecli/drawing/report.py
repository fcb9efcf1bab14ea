"""Numbers and images to a PNG sheet, a Markdown page and JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from statistics import fmean
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from timecli.drawing.judge import Judge
from timecli.drawing.likeness import between_seeds, likeness
from timecli.drawing.render import Settings
from timecli.drawing.verify import PAPER, Images, Score, Scores, mean
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import LIKENESS, METRICS, Row
from timecli.shown import harmless, in_markdown

INK = {
    "source": "#12518c",
    "positive": "#17702f",
    "negative": "#6b6b6b",
    "explicit": "#7a4b00",
    "sample": "#222222",
    "everyday": "#8a8a8a",
}
SCORES = (*METRICS, *LIKENESS, "harmonic mean")
"""Columns of the table of scores."""
EACH = ("kind", "prompt", "forecast", "shows the destination", "kept or reached", "another seed")
"""Columns of the table of prompts."""
COVERED = (
    "*kept* and *reached* are mean cosines to the pictures that are wanted, in the judge's features, and *another",
    "seed* that of two pictures of the unedited model; the harmonic mean is of efficacy, generality and specificity.",
)
"""What the columns are."""
SHOWN = 4
"""Seeds on the sheet."""
CELL, LABEL, GAP, HEAD = 112, 300, 16, 40


Column = Callable[[Row], Sequence[Image.Image]]
"""What a column of the sheet shows of a row, seed by seed; nothing where it has no picture."""


def columns(before: Images, after: Images) -> dict[str, Column]:
    """The columns of `verify`: before, after, and oracle (the unedited model given the destination)."""
    return {
        "before": lambda row: before[row.prompt],
        "after": lambda row: after[row.prompt],
        "oracle": lambda row: before[row.oracle] if row.oracle else [],
    }


def sheet(table: Sequence[Row], shows: Mapping[str, Column], title: str) -> Image.Image:
    """Rows of prompts, and the columns by their names."""
    shown = min(SHOWN, max(len(column(row)) for column in shows.values() for row in table))
    block = shown * CELL + GAP
    image = Image.new("RGB", (LABEL + len(shows) * block + GAP, 2 * HEAD + len(table) * (CELL + 4)), "white")
    canvas = ImageDraw.Draw(image)
    canvas.text((GAP, 10), harmless(title), "black", ImageFont.load_default(20))
    for i, name in enumerate(shows):
        canvas.text((LABEL + i * block, HEAD + 12), name, "black", ImageFont.load_default(18))
    for i, row in enumerate(table):
        top = 2 * HEAD + i * (CELL + 4)
        _label(canvas, row, top)
        for j, column in enumerate(shows.values()):
            for k, picture in enumerate(column(row)[:shown]):
                image.paste(_fit(picture), (LABEL + j * block + k * CELL, top))
    return image


def _label(canvas: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    """Kind, prompt (two lines at most) and destination, in the colour of the kind."""
    font, small = ImageFont.load_default(16), ImageFont.load_default(13)
    canvas.rectangle([0, top, 5, top + CELL - 1], fill=INK[row.kind])
    canvas.text((GAP, top + 2), row.kind, INK[row.kind], small)
    canvas.text((GAP, top + 20), _lines(row.prompt, 32), INK[row.kind], font)
    if row.destination:
        canvas.text((GAP, top + 66), _lines(f"to: {row.destination}", 40), "#8a8a8a", small)


def _lines(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(harmless(text), width, max_lines=2, placeholder=" ..."))


def _fit(picture: Image.Image) -> Image.Image:
    side = CELL - 2
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def numbers(
    manifest: Manifest,
    model: str,
    settings: Settings,
    scores: Scores | None,
    misses: Sequence[str],
    each: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What `verify` found, as plain data. `scores` is None without a judge."""
    measured = None
    if scores is not None:
        measured = {
            name: {metric: _plain(score) for metric, score in found.items()}
            | ({"harmonic_mean": mean(found)} if any(metric in found for metric in PAPER) else {})
            for name, found in scores.items()
        }
    about = {"manifest": manifest.name, "model": model, **asdict(settings)}
    return {**about, "scores": measured, "missed": list(misses), "prompts": list(each)}


def per_prompt(
    table: Sequence[Row], shares: Sequence[float | None], judge: Judge | None, before: Images, after: Images
) -> list[dict[str, Any]]:
    """What becomes of every prompt: forecast, and of the pictures the share that shows the destination, and likeness.

    Likeness is the mean cosine to the pictures that are wanted, kept or reached; its yardstick is that of another seed.
    """
    found = []
    seen = (judge.seeing(before), judge.seeing(after)) if judge else None
    for row, share in zip(table, shares, strict=True):
        one: dict[str, Any] = {"kind": row.kind, "prompt": row.prompt, "destination": row.destination}
        one |= {"counts": row.counts, "forecast": share, "shown": None, "likeness": None, "another_seed": None}
        if judge is not None and seen is not None:
            if row.destination:
                one["shown"] = fmean(judge.choose(after[row.prompt], (row.prompt, row.destination)))
            for key, cosines in (("likeness", likeness(row, *seen)), ("another_seed", between_seeds(row, seen[0]))):
                one[key] = fmean(cosines) if cosines else None
        found.append(one)
    return found


def each_rows(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Cells of the table of prompts."""

    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    formats = {"forecast": ".0%", "shown": ".0%", "likeness": ".3f", "another_seed": ".3f"}
    return [
        [
            one["kind"] if one["counts"] else f"{one['kind']}, not counted",
            one["prompt"],
            *(shown(one[key], form) for key, form in formats.items()),
        ]
        for one in found
    ]


def _plain(score: Score) -> dict[str, float]:
    return {"mean": score.mean, "std": score.std}


def markdown(found: dict[str, Any]) -> str:
    """The report as a page that Git hosts show, with the sheet."""
    lines = [
        f"# {in_markdown(found['manifest'])} on {in_markdown(found['model'])}",
        "",
        f"Seeds: {len(found['seeds'])}, steps: {found['steps']}, guidance: {found['guidance']:g}.",
        "",
    ]
    if found["scores"]:
        lines += [f"| | {' | '.join(SCORES)} |", "|---" * (len(SCORES) + 1) + "|"]
        lines += [f"| {' | '.join(cells)} |" for cells in score_rows(found["scores"])]
        lines += ["", *COVERED]
    else:
        lines.append("No judge was given, so nothing was measured.")
    lines += [
        "",
        *(f"- **missed**: {in_markdown(sentence)}" for sentence in found["missed"]),
        "",
        "![before, after, oracle](sheet.png)",
        "",
    ]
    lines += [f"| {' | '.join((*EACH, 'destination'))} |", "|---" * (len(EACH) + 1) + "|"]
    for one, cells in zip(found["prompts"], each_rows(found["prompts"]), strict=True):
        cells[1] = in_markdown(one["prompt"])
        lines.append(f"| {' | '.join([*cells, in_markdown(one['destination'] or '')])} |")
    return "\n".join(lines) + "\n"


def score_rows(scores: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Cells of the table of scores: model, the metrics, kept and reached, harmonic mean."""

    def cell(score: Mapping[str, float] | None) -> str:
        return f"{score['mean']:.1%} ± {score['std']:.1%}" if score else "-"

    def like(score: Mapping[str, float] | None) -> str:
        return f"{score['mean']:.3f}" if score else "-"

    return [
        [
            name,
            *(cell(found.get(metric)) for metric in METRICS),
            *(like(found.get(metric)) for metric in LIKENESS),
            f"{found['harmonic_mean']:.1%}" if "harmonic_mean" in found else "-",
        ]
        for name, found in scores.items()
    ]


def files(image: Image.Image, found: dict[str, Any]) -> dict[str, bytes]:
    """The report's files by their names."""
    png = BytesIO()
    image.save(png, "PNG")
    data = json.dumps(found, indent=2) + "\n"
    return {"sheet.png": png.getvalue(), "report.md": markdown(found).encode(), "report.json": data.encode()}
