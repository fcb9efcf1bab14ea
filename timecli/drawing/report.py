"""Numbers and images to a PNG sheet, a Markdown page and JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from timecli.drawing.album import png
from timecli.drawing.verify import Images
from timecli.editing.forecast import shown
from timecli.manifests.rows import BALANCE, COSINES, FOLLOW, METRICS, Row
from timecli.shown import amount, harmless, in_markdown, table_row

INK = {
    "source": "#12518c",
    "positive": "#17702f",
    "negative": "#6b6b6b",
    "explicit": "#7a4b00",
    "told": "#5b2a86",
    "balance": "#12518c",
    "sample": "#222222",
    "everyday": "#8a8a8a",
}
SCORES = (*METRICS, *COSINES, "harmonic mean")
"""Columns of the table of scores."""
EACH = ("kind", "prompt", "forecast", "shows the destination", "kept or reached", "another seed")
"""Columns of the table of prompts."""
FORMS = {"forecast": ".0%", "shown": ".0%", "likeness": ".3f", "another_seed": ".3f"}
"""Its numbers, and how they are written."""
COVERED = (
    "*efficacy* is the share of pictures of sources that show the destination, *generality* that of other wordings;",
    "*specificity* is the share of pictures of neighbours that stay, *explicit* that of prompts that name another",
    "value.",
    "*baseline* is the unedited model, *oracle* the unedited model when it is asked for the destination. *kept*,",
    "*worst* and *reached* say how alike two pictures are (cosine in the judge's features; 1 is the same). *kept* is",
    "of before and after, where a prompt should stay; *worst* is the same of the everyday prompt that changed most;",
    "*reached* is of after and oracle, where a prompt should follow. *another seed* compares two seeds of the unedited",
    "model. The harmonic mean is of efficacy, generality and specificity.",
)
"""What the columns are."""
SHOWN = 4
"""Seeds on the sheet."""
CELL, LABEL, GAP, HEAD, NOTE = 112, 300, 16, 40, 140


Column = Callable[[Row], Sequence[Image.Image]]
"""What a column of the sheet shows of a row, seed by seed; nothing where it has no picture."""


def columns(before: Images, after: Mapping[str, Images]) -> dict[str, Column]:
    """The columns of `verify`: before, every edit, and oracle (the unedited model given the destination)."""

    def edited(images: Images) -> Column:
        return lambda row: images[row.prompt]

    return {
        "before": edited(before),
        **{name: edited(images) for name, images in after.items()},
        "oracle": lambda row: before[row.oracle] if row.oracle else [],
    }


def sheet(table: Sequence[Row], shows: Mapping[str, Column], title: str, notes: Sequence[str] = ()) -> Image.Image:
    """Rows of prompts, and the columns by their names; `notes` stand behind them, row by row."""
    shown = min(SHOWN, max(len(column(row)) for column in shows.values() for row in table))
    block = shown * CELL + GAP
    right = LABEL + len(shows) * block
    lines = [_lines_of(row, shows, shown) for row in table]
    size = (right + GAP + (NOTE if notes else 0), 2 * HEAD + sum(lines) * (CELL + 4))
    image = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(image)
    canvas.text((GAP, 10), harmless(title), "black", ImageFont.load_default(20))
    for i, name in enumerate(shows):
        canvas.text((LABEL + i * block, HEAD + 12), name, "black", ImageFont.load_default(18))
    for i, row in enumerate(table):
        top = 2 * HEAD + sum(lines[:i]) * (CELL + 4)
        _label(canvas, row, top)
        if notes:
            canvas.text((right, top + 20), notes[i], "black", ImageFont.load_default(13))
        for j, column in enumerate(shows.values()):
            for k, picture in enumerate(column(row)[: shown * lines[i]]):
                place = LABEL + j * block + k % shown * CELL, top + k // shown * (CELL + 4)
                image.paste(_fit(picture), place)
    return image


def _lines_of(row: Row, shows: Mapping[str, Column], shown: int) -> int:
    """How many lines of pictures a row has: of a balance all seeds are shown, since their share is what counts."""
    drawn = max(len(column(row)) for column in shows.values())
    return -(-drawn // shown) if row.kind == BALANCE else 1


def _label(canvas: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    """Kind, prompt (two lines at most) and destination, in the colour of the kind."""
    font, small = ImageFont.load_default(16), ImageFont.load_default(13)
    canvas.rectangle([0, top, 5, top + CELL - 1], fill=INK[row.kind])
    canvas.text((GAP, top + 2), row.kind, INK[row.kind], small)
    canvas.text((GAP, top + 20), _lines(row.prompt, 32), INK[row.kind], font)
    if row.destination:
        way = "to" if row.kind in FOLLOW else "or" if row.kind == BALANCE else "not"
        canvas.text((GAP, top + 66), _lines(f"{way}: {row.destination}", 40), "#8a8a8a", small)


def _lines(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(harmless(text), width, max_lines=2, placeholder=" ..."))


def _fit(picture: Image.Image) -> Image.Image:
    side = CELL - 2
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def each_table(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the table of prompts; of several edits, what every one of them shows and keeps."""
    names = list(found["edits"])
    if len(names) == 1:
        return [*EACH], [[*_asked(one), *(number(one, key) for key in FORMS)] for one in found["prompts"]]
    head = [*EACH[:2], *(f"{name}: {what}" for name in names for what in ("shows", "like"))]
    keys = [(name, key) for name in names for key in ("shown", "likeness")]
    rows = [[*_asked(one), *(number(one["edits"][name], key) for name, key in keys)] for one in found["prompts"]]
    return head, rows


def _asked(one: Mapping[str, Any]) -> list[str]:
    return [one["kind"] if one["counts"] or one["kind"] == BALANCE else f"{one['kind']}, not counted", one["prompt"]]


def number(one: Mapping[str, Any], key: str) -> str:
    """One of a prompt's numbers as it is written: of the forecast, the share of pictures."""
    value = one[key]
    if value is None:
        return "-"
    return format(shown(value) if key == "forecast" else value, FORMS.get(key, ".0%"))


def markdown(found: dict[str, Any]) -> str:
    """The report as a page that Git hosts show, with the sheet."""
    count = len(found["seeds"])
    lines = [
        f"# {in_markdown(found['manifest'])} on {in_markdown(found['model'])}",
        "",
        f"Seeds: {count}, of which the sheet shows {min(SHOWN, count)}; steps: {found['steps']}, guidance: "
        f"{found['guidance']:g}.",
        *(f"- {in_markdown(sentence)}" for sentence in found.get("because", ())),
        "",
        *(f"- **in doubt**: {in_markdown(sentence)}" for sentence in found["doubts"]),
        *([""] * bool(found["doubts"])),
    ]
    if found["scores"]:
        lines += score_table(found["scores"])
    else:
        tested = ", and no threshold was tested" * bool(found["thresholds"])
        lines.append(f"No judge was given, so nothing was measured{tested}.")
    lines += [
        "",
        *(f"- **balance**: {in_markdown(sentence)}" for sentence in balance_lines(found)),
        *(f"- **missed**: {in_markdown(sentence)}" for sentence in found["missed"]),
        "",
        "![before, edited, oracle](sheet.png)",
        "",
    ]
    head, rows = each_table(found)
    lines += [table_row(*head, "destination, or what must not be shown"), "|---" * (len(head) + 1) + "|"]
    for one, cells in zip(found["prompts"], rows, strict=True):
        cells[1] = in_markdown(one["prompt"])
        goal = in_markdown(one["destination"] or "")
        lines.append(table_row(*cells, goal if one["kind"] in FOLLOW or not goal else f"not: {goal}"))
    return "\n".join(lines) + "\n"


def balance_lines(found: Mapping[str, Any]) -> list[str]:
    """Sentences for every balance that was measured: the share, Δ, and what the share can truly be."""
    lines = []
    for name, balance in found["balances"].items():
        first, before = balance["descriptions"][0], balance["unedited"]
        for edit in found["edits"]:
            one = balance[edit]
            low, high = one["interval"]
            column = "" if len(found["edits"]) == 1 else f"{edit}, "
            lines.append(
                f"{name}, {column}balance: {first!r} in {one['share']:.0%} of {one['pictures']} pictures (unedited "
                f"{before['share']:.0%}), {balance['target']:.0%} asked for, Δ {one['delta']:.2f}; "
                f"with 95 % confidence the share is {low:.0%} to {high:.0%}"
            )
    return lines


def score_table(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table of scores in Markdown, and what its columns are."""
    head = [f"| | {' | '.join(SCORES)} |", "|---" * (len(SCORES) + 1) + "|"]
    return [*head, *(table_row(*cells) for cells in score_rows(scores)), "", *COVERED]


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
            *(like(found.get(metric)) for metric in COSINES),
            f"{found['harmonic_mean']:.1%}" if "harmonic_mean" in found else "-",
        ]
        for name, found in scores.items()
    ]


def best(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Scores of the edit that a report speaks of: the only one, or the best of several."""
    scores = found["scores"] or {}
    own: Mapping[str, Any] = scores.get("edited") or scores.get(found["best"], {})
    return own


def files(table: Sequence[Row], shows: Mapping[str, Column], found: dict[str, Any]) -> dict[str, bytes]:
    """The report's files by their names."""
    title = f"{found['manifest']} on {found['model']}, {_seeds(shows, table)}"
    image = sheet(table, shows, title, [_note(one) for one in found["prompts"]])
    data = json.dumps(found, indent=2) + "\n"
    return {"sheet.png": png(image), "report.md": markdown(found).encode(), "report.json": data.encode()}


def _note(one: Mapping[str, Any]) -> str:
    """A prompt's numbers, line by line."""
    likeness = "reached" if one["kind"] in FOLLOW else "kept"
    words = {"forecast": "forecast", "shown": "shown", "likeness": likeness}
    return "\n".join(f"{word} {number(one, key)}" for key, word in words.items() if one[key] is not None)


def _seeds(shows: Mapping[str, Column], table: Sequence[Row]) -> str:
    """How many seeds the sheet shows, of how many."""
    drawn = max(len(column(row)) for column in shows.values() for row in table)
    return f"{min(SHOWN, drawn)} of {drawn} seeds" if drawn > SHOWN else amount(drawn, "seed")
