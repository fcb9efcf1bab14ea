"""Numbers and images to one page for people: verdict, scores, and every prompt with its pictures, worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from timecli.drawing.html import address, filled
from timecli.drawing.report import SCORES, Column, best, number, score_rows
from timecli.manifests.rows import BALANCE, COSINES, FOLLOW, METRICS, TOLD, Row, figure
from timecli.shown import all_of

BEFORE, ORACLE = "before", "oracle"
"""The columns on both sides of what was edited."""
STYLES, SCRIPTS = ("base.css", "cards.css"), ("cards.js",)
"""What every page with cards has."""


KINDS = {
    "source": "what is edited: the pictures after should show the destination (→)",
    "positive": "other words for the same, which are not edited and should follow",
    "negative": "a neighbour, which should stay and must not show what follows “not:”",
    "explicit": "a prompt that names another value, which wins",
    "told": "a neighbour that another pair edits; it does not count",
    "balance": "both descriptions should be drawn, each as often as the target says",
    "sample": "a prompt of your own to look at",
    "everyday": "a prompt about something else, which should stay",
}
"""Kinds of prompts, for readers of the page."""
LEGEND = {
    **KINDS,
    "before": "the unedited model: what should stay should look like this",
    "oracle": "the unedited model, asked for the destination: what should follow should look like this",
    "forecast": "the share of pictures that shows the destination, as “plan” forecasts it from text",
    "efficacy": "the share of pictures of sources that shows the destination",
    "generality": "the same of positives",
    "specificity": "the share of pictures of negatives that still shows the prompt and not the destination; the score "
    "“explicit” is the same of explicit prompts",
    "harmonic mean": "of efficacy, generality and specificity: low where one of them is low",
    "kept": "how much the pictures after look like those before; 1 is the same (cosine in the judge’s features)",
    "worst": "kept of the everyday prompt that changed most",
    "reached": "how much the pictures after look like the oracle’s",
    "baseline": "the unedited model, asked for the same prompts as the edited one",
    "another seed": "kept and reached between two seeds of the unedited model, for comparison",
}
"""Words of the page."""
DRAWN = ("seeds", "steps", "guidance", "because", "precision", "device", "judge", "base", "timecli", "torch")
"""What of all that was found says how it was drawn."""


@dataclass(frozen=True)
class Tile:
    """A picture under its column; one that `wipes` lies over the picture before."""

    column: str
    address: str
    size: tuple[int, int]
    alt: str
    wipes: bool


@dataclass(frozen=True)
class Card:
    """A prompt: what should become of it, its numbers, and its tiles seed by seed."""

    row: Row
    should: str
    facts: dict[str, str]
    seeds: dict[int, list[Tile]]

    @property
    def after(self) -> str:
        """What wipes over the picture before; empty where there is nothing to compare."""
        names = list(dict.fromkeys(tile.column for tiles in self.seeds.values() for tile in tiles if tile.wipes))
        return f"after, in {all_of(len(names), 'column')}" if len(names) > 1 else "".join(names)

    @property
    def follows(self) -> bool:
        """Whether the destination is wanted; otherwise it is what the pictures must not show."""
        return self.row.kind in FOLLOW


def page(found: Mapping[str, Any], table: Sequence[Row], shows: Mapping[str, Column]) -> str:
    """The report as one HTML file.

    Args:
        found: what `timecli verify --json` prints.
        table: the prompts.
        shows: "before", what was edited under one name or several, and "oracle".
    """
    pairs = sorted(zip(found["prompts"], table, strict=True), key=lambda pair: distance(pair[0]), reverse=True)
    pairs.sort(key=lambda pair: pair[1].kind != BALANCE)  # what a balance is about comes first
    cards = [card(one, row, shows, found["seeds"]) for one, row in pairs]
    scores = found["scores"]
    return filled(
        "verify.html",
        [*STYLES, "verify.css"],
        [*SCRIPTS, "verify.js"],
        found=found,
        about=about(found),
        verdict=verdict(found),
        measures=measures(found),
        columns=SCORES,
        scores=score_rows(scores) if scores else [],
        cards=cards,
        legend={
            word: text for word, text in LEGEND.items() if word not in KINDS or word in {row.kind for row in table}
        },
        kinds={kind: sum(card.row.kind == kind for card in cards) for kind in dict.fromkeys(row.kind for row in table)},
    )


def distance(one: Mapping[str, Any]) -> float:
    """How far a prompt is from what it should be, 0 to 1; below 0 where nobody knows.

    It is the larger of the share of its pictures that show the wrong thing and of what its likeness lacks to 1. Nobody
    knows where nothing was judged, or where the prompt does not count.
    """
    if not one["counts"]:
        return -1.0
    share, like = one["shown"], one["likeness"]
    wrong = [] if share is None else [1 - share if one["kind"] in FOLLOW else share]
    return max([*wrong, *([] if like is None else [1 - like])], default=-1.0)


def verdict(found: Mapping[str, Any]) -> str:
    """One sentence: did the edit do what its manifest asks for?"""
    wanted, missed = len(found["thresholds"]), len(found["missed"])
    if not found["scores"]:
        return f"Nothing was measured{', and no threshold tested' if wanted else ''}: no judge was given."
    if not wanted:
        return "Measured. The manifest sets no thresholds."
    if missed and missed < wanted:
        return f"{missed} of {wanted} thresholds missed."
    everything = all_of(wanted, "threshold").capitalize()
    doubt = ", but the numbers are in doubt" if found["doubts"] and not missed else ""
    return f"{everything} {'is' if wanted == 1 else 'are'} {'missed' if missed else 'met'}{doubt}."


def about(found: Mapping[str, Any]) -> dict[str, str]:
    """What was done, name by name: of every edit what it was made with, and how it was drawn."""
    kept = [(name, entry) for name, entry in found.items() if name in DRAWN]
    for edit, made in found["edits"].items():
        alone = len(found["edits"]) == 1
        kept += [(name if alone else f"{edit}: {name}", entry) for name, entry in made.items()]
    return {name.replace("_", " "): _text(entry) for name, entry in kept if entry not in (None, ())}


def _text(entry: Any) -> str:
    if isinstance(entry, list | tuple):
        return ", ".join(map(_text, entry))
    return f"{entry:g}" if isinstance(entry, float) else str(entry)


def measures(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each metric that was measured, or that has a threshold: its value, what is wanted, met or missed."""
    edited, wanted = best(found), found["thresholds"]
    shown = []
    for metric in (name for name in (*METRICS, *COSINES) if name in edited or name in wanted):
        value, limit = edited[metric]["mean"] if metric in edited else None, wanted.get(metric)
        state = "" if value is None or limit is None else "met" if value >= limit else "missed"
        texts = {key: None if x is None else figure(metric, x) for key, x in (("value", value), ("wanted", limit))}
        shown.append({"metric": metric, "state": state, "share": value, "limit": limit, "said": "", **texts})
    for name, balance in found["balances"].items():
        one, goal = balance[found["best"]], balance["target"]
        low, high = one["interval"]
        said = f"{goal:.0%} asked for, Δ {one['delta']:.2f}; {low:.0%} to {high:.0%} with 95 % confidence"
        shown.append({"metric": f"{name}: {balance['descriptions'][0]}", "state": "", "share": one["share"]})
        shown[-1] |= {"limit": goal, "value": f"{one['share']:.0%}", "wanted": None, "said": said}
    return shown


def card(one: Mapping[str, Any], row: Row, shows: Mapping[str, Column], seeds: Sequence[int]) -> Card:
    """A prompt's card: its numbers and the columns' pictures of it."""
    names = {"forecast": "forecast", "another_seed": "another seed"}
    names["shown"] = "shows the destination" if row.kind in FOLLOW else "shows what it must not"
    if row.kind == BALANCE:
        names = {"unedited": "before, shows the first", "shown": "shows the first"}
    else:
        names["likeness"] = "reached" if row.kind in FOLLOW else "kept"
    facts = {name: number(one, key) for key, name in names.items() if one[key] is not None}
    if row.kind not in (*FOLLOW, BALANCE) and one.get("unedited") is not None:
        facts[names["shown"]] += f" (before {number(one, 'unedited')})"
    should = "should follow" if row.kind in FOLLOW else "should stay" if row.counts else "not counted"
    should = {TOLD: "edited by another pair", BALANCE: "should show both"}.get(row.kind, should)
    columns = {name: column(row) for name, column in shows.items()}
    tiles = {
        seed: [_tile(row, name, seed, own[i]) for name, own in columns.items() if len(own) > i]
        for i, seed in enumerate(seeds)
    }
    return Card(row, should, facts, tiles)


def _tile(row: Row, name: str, seed: int, picture: Any) -> Tile:
    """A picture under the name of its column."""
    alt = f"{row.prompt}: {name}, seed {seed}"
    return Tile(name, address(picture), picture.size, alt, name not in (BEFORE, ORACLE))
