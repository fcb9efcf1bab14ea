"""A bench as one page for people: the trade-off, tables that sort, and the worst prompts with their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from timecli.drawing import verify
from timecli.drawing.html import filled
from timecli.drawing.page import SCRIPTS, STYLES, Card, card
from timecli.manifests.rows import LIKENESS, METRICS, figure
from timecli.measuring import tables
from timecli.measuring.pictures import SHOWN, Album, models, row, worst
from timecli.measuring.prompts import Drawn
from timecli.measuring.schedule import BASE, Configuration
from timecli.measuring.tables import Result, Scores

WIDTH, HEIGHT, EDGE = 640, 420, 48
"""The plot, and what its axes take of it, in its own units."""
APART = 24
"""Between two circles that can both be read and pressed."""
MEANS = ("mean", "of three")


@dataclass(frozen=True)
class Cell:
    """What a table shows and what it sorts by; `link` is a place on the page."""

    text: str
    value: float | str
    link: str = ""


@dataclass(frozen=True)
class Point:
    """A circle of the trade-off: its mark, what it says to a screen reader, and where it leads."""

    mark: str
    name: str
    x: float
    y: float
    link: str


@dataclass(frozen=True)
class Part:
    """A configuration: its number, its edits, its balances, and its worst prompts with their edits."""

    number: int
    name: str
    edits: list[list[Cell]]
    balances: list[list[Cell]]
    cards: list[tuple[Card, str]]


def page(title: str, results: Sequence[Result], each: Sequence[Drawn], album: Album, seeds: Sequence[int]) -> str:
    """The bench as one HTML file; a prompt whose pictures are not in the album has none."""
    rows = tables.by_configuration(results)
    chosen, of = worst(each), models([result.job for result in results])
    parts = []
    for i, (configuration, found) in enumerate(rows.items(), 1):
        cards = [(_card(one, of[one.configuration, one.edit], album, seeds), one.edit)
                 for one in chosen.get(configuration.name, [])]  # fmt: skip
        parts.append(Part(i, configuration.name, edit_rows(found), balance_rows(found), cards))
    return filled(
        "bench.html",
        [*STYLES, "bench.css"],
        [*SCRIPTS, "bench.js"],
        title=title,
        head=(*METRICS, *MEANS, *LIKENESS),
        totals=total_rows(rows) if any(result.scores for result in results) else [],
        points=(plotted := points(rows)),
        lines=lines(rows, plotted),
        ticks=[(i / 5, *at(i / 5, i / 5)) for i in range(6)],
        size=(WIDTH, HEIGHT, EDGE),
        parts=parts,
        seeds=len(seeds),
        shown=min(SHOWN, len(seeds)),
    )


def at(generality: float, specificity: float) -> tuple[float, float]:
    """Where two shares are in the plot."""
    x = EDGE + generality * (WIDTH - 2 * EDGE)
    return round(x, 1), round(HEIGHT - EDGE - specificity * (HEIGHT - 2 * EDGE), 1)


def points(rows: Mapping[Configuration, Sequence[Result]]) -> list[Point]:
    """Baseline, oracle, and every configuration under its number, of those with both metrics."""
    first = next(iter(rows.values()))
    named = [(name[0].upper(), name, "#totals", tables.total(tables.merged(first, name)))
             for name in ("baseline", "oracle")]  # fmt: skip
    named += [
        (str(i), configuration.name, f"#part-{i}", tables.total(tables.merged(found, "edited")))
        for i, (configuration, found) in enumerate(rows.items(), 1)
    ]
    found: list[Point] = []
    for mark, name, link, scores in named:
        if all(metric in scores for metric in tables.MEASURED):
            values = [scores[metric].mean for metric in tables.MEASURED]
            said = ", ".join(f"{m} {figure(m, value)}" for m, value in zip(tables.MEASURED, values, strict=True))
            found.append(Point(mark, f"{mark}, {name}: {said}", *_free(found, *at(*values)), link))
    return found


def _free(taken: Sequence[Point], x: float, y: float) -> tuple[float, float]:
    """The place itself, or one to its left where others stand on it."""
    while any(abs(x - point.x) < APART and abs(y - point.y) < APART for point in taken):
        x = round(x - APART, 1)
    return x, y


def lines(rows: Mapping[Configuration, Any], found: Sequence[Point]) -> list[str]:
    """One line through what differs in λ only."""
    marked = {point.mark: point for point in found}
    through: dict[Configuration, list[Point]] = {}
    for i, configuration in enumerate(rows, 1):
        if (point := marked.get(str(i))) is not None:
            through.setdefault(replace(configuration, lam=None), []).append(point)
    return [" ".join(f"{p.x},{p.y}" for p in own) for own in through.values() if len(own) > 1]


def total_rows(rows: Mapping[Configuration, Sequence[Result]]) -> list[list[Cell]]:
    """Baseline, oracle and another seed, then every configuration with its number."""
    first = next(iter(rows.values()))
    found = [
        [Cell(name, name), *_cells(tables.total(merged))]
        for name in ("baseline", "oracle", "another seed")
        if (merged := tables.merged(first, name))
    ]
    for i, (configuration, own) in enumerate(rows.items(), 1):
        name = Cell(f"{i}. {configuration.name}", configuration.name, f"#part-{i}")
        found.append([name, *_cells(tables.total(tables.merged(own, "edited")))])
    return found


def edit_rows(found: Sequence[Result]) -> list[list[Cell]]:
    """The edits of one configuration."""
    return [[Cell(name, name), *_cells(scores["edited"])] for result in found for name, scores in result.scores.items()]


def balance_rows(found: Sequence[Result]) -> list[list[Cell]]:
    """The shares of the first description before and after, and how far each is from the target."""
    rows = []
    for result in found:
        for name, shares in result.balanced.items():
            cells = [[_share(one.share), _number(fmean(one.deltas))] for one in (shares.before, shares.after)]
            rows.append([Cell(name, name), *cells[0], *cells[1]])
    return rows


def _cells(scores: Scores) -> list[Cell]:
    measured = [_share(scores[metric].mean) if metric in scores else _none() for metric in METRICS]
    measured.append(_share(tables.mean(scores)) if any(m in scores for m in tables.MEASURED) else _none())
    whole = all(metric in scores for metric in verify.PAPER)
    measured.append(_share(verify.mean(scores)) if whole else _none())
    return [*measured, *(_number(scores[m].mean, 3) if m in scores else _none() for m in LIKENESS)]


def _share(value: float) -> Cell:
    return Cell(f"{value:.1%}", value)


def _number(value: float, digits: int = 2) -> Cell:
    return Cell(f"{value:.{digits}f}", value)


def _none() -> Cell:
    return Cell("–", "")


def _card(one: Drawn, model: str, album: Album, seeds: Sequence[int]) -> Card:
    shown, own = list(seeds[:SHOWN]), row(one)
    oracle = own.oracle
    shows = {
        "before": lambda _: album.pictures(BASE, one.prompt, shown),
        "after": lambda _: album.pictures(model, one.prompt, shown),
        "oracle": lambda _: album.pictures(BASE, oracle, shown) if oracle else [],
    }
    return card(asdict(one), own, shows, shown)
