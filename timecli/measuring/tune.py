"""One number, found by drawing: the best trade-off, or a balance of two descriptions (Orgad et al. 2023, §6).

The number is the strength of the edits where the everyday world is preserved, and λ where it is not.
A search walks along its axis, starts from the forecast, and draws for no value twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import tomlkit

from timecli.errors import ManifestError, explained
from timecli.manifests.manifest import Balance, Manifest, parse, same, with_lambda, with_strength
from timecli.measuring.schedule import joint
from timecli.measuring.tables import distance
from timecli.measuring.trials import Drawings, Forecasts

OBJECTIVES = ("harmonic", "balance", "forecast")
CLOSE = 0.1
"""Δ_p at which the balance is found (appendix H.2)."""
TRIALS = 16
ROUNDS, PACE = 10, 0.35
"""Of a joint balance: how often all strengths move, and how far for a share that is off by one."""


@dataclass(frozen=True)
class Axis:
    """What is searched: places on a line, and the value at a place.

    Attributes:
        key: the manifest's key in `[solve]`.
        least: where the line begins.
        most: where it ends.
        step: a long step.
        gentle: which way along the line the model changes less.
        value: place -> value, with the digits that are written.
        applied: (manifest, value) -> the manifest with that value for all its edits.
    """

    key: str
    least: float
    most: float
    step: float
    gentle: int
    value: Callable[[float], float]
    applied: Callable[[Manifest, float], Manifest]


LAMBDA = Axis("lambda", -8.0, 8.0, 1.0, 1, lambda place: float(f"{10**place:.3g}"), with_lambda)
STRENGTH = Axis("strength", 0.05, 3.0, 0.4, -1, lambda place: round(place, 3), with_strength)


def axis(manifest: Manifest) -> Axis:
    """What is searched for this manifest."""
    return LAMBDA if manifest.preserve.everyday is False else STRENGTH


@dataclass(frozen=True)
class Trial:
    """What one value gave: `score` is the mean of `Drawings.mean`, or the share of the balance's first description."""

    value: float
    score: float


Try = Callable[[float], float]
"""value -> score, by drawing."""


def search(
    manifest: Manifest, objective: str, forecasts: Forecasts, drawings: Drawings | None, report: Callable[[Trial], None]
) -> Trial:
    """The best value for one manifest.

    Args:
        manifest: what is tuned.
        objective: one of `OBJECTIVES`.
        forecasts: where the search begins.
        drawings: what is counted; None for the objective "forecast".
        report: called with every trial.
    """
    line = axis(manifest)
    if drawings is None:
        value = line.value(best_forecast(manifest, line, forecasts))
        return Trial(value, forecasts.mean(line.applied(manifest, value)))
    if objective == "harmonic":
        first = best_forecast(manifest, line, forecasts)
        return harmonic(first, line, lambda value: drawings.mean(line.applied(manifest, value)), report)
    first, target = halfway(manifest, line, forecasts), _balance(manifest).target
    rising = rises(manifest, line)
    return balance(first, line, lambda value: drawings.share(line.applied(manifest, value)), report, target, rising)


def best_forecast(manifest: Manifest, line: Axis, forecasts: Forecasts) -> float:
    """The place with the best forecast of the harmonic mean."""
    places = [line.least + i * (line.most - line.least) / 32 for i in range(33)]
    return max(places, key=lambda place: forecasts.mean(line.applied(manifest, line.value(place))))


def halfway(manifest: Manifest, line: Axis, forecasts: Forecasts) -> float:
    """The place at which the sources go half of their way, which is where a balance is looked for first."""
    low, high = line.least, line.most
    for _ in range(12):
        middle = (low + high) / 2
        far = forecasts.moved(line.applied(manifest, line.value(middle))) > 0.5
        low, high = (middle, high) if far == (line is LAMBDA) else (low, middle)
    return (low + high) / 2


def harmonic(first: float, line: Axis, attempt: Try, report: Callable[[Trial], None]) -> Trial:
    """The value with the best score: uphill by long steps, then by half of them and a quarter, on both sides.

    Of equal scores the smaller change counts, and the search walks on that way while the score holds.
    """
    seen: dict[float, Trial] = {}

    def at(place: float) -> Trial:
        place = round(min(max(place, line.least), line.most), 3)
        if place not in seen:
            value = line.value(place)
            seen[place] = Trial(value, attempt(value))
            report(seen[place])
        return seen[place]

    def rank(place: float) -> tuple[float, float]:
        return at(place).score, line.gentle * at(place).value

    best = first
    for step in (line.step, line.step / 2, line.step / 4):
        for direction in (-step, step):
            while rank(best + direction) > rank(best):
                best += direction
    return at(best)


def balance(
    first: float, line: Axis, attempt: Try, report: Callable[[Trial], None], target: float, rises: bool
) -> Trial:
    """The value at which the share of the first description is as good as the target, by bisection.

    Args:
        first: the place to begin with.
        line: what is searched.
        attempt: value -> share.
        report: called with every trial.
        target: the share that is wanted.
        rises: whether the share rises along the axis.
    """
    low, high, place = line.least, line.most, first
    best: Trial | None = None
    for _ in range(TRIALS):
        value = line.value(place)
        trial = Trial(value, attempt(value))
        report(trial)
        if best is None or distance(trial.score, target) < distance(best.score, target):
            best = trial
        if distance(trial.score, target) < CLOSE:
            break
        up = (trial.score < target) == rises
        low, high = (place, high) if up else (low, place)
        # While one side is open, a long step; then the middle.
        open_side = high == line.most if up else low == line.least
        step = place + (line.step if up else -line.step) if open_side else (low + high) / 2
        step = min(max(step, line.least), line.most)
        if abs(step - place) < 0.01 * line.step:
            break
        place = step
    assert best is not None
    return best


def balance_all(
    tasks: Sequence[Manifest], drawings: Drawings, report: Callable[[str, Trial], None]
) -> list[tuple[float, float]]:
    """Strengths at which one joint edit balances every manifest; (strength, share) of each, of the best round.

    Debiasing one profession moves the others (Figure 10), so all strengths take a step at once, as far as their own
    shares are off, and everything is drawn again.
    """
    strengths = [task.strength(task.edits[0]) for task in tasks]
    best: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        edited = joint([with_strength(task, value) for task, value in zip(tasks, strengths, strict=True)])[0]
        shares = drawings.shares(edited, tasks)
        found = list(zip(strengths, shares, strict=True))
        for task, (value, share) in zip(tasks, found, strict=True):
            report(task.name, Trial(value, share))
        if not best or worst(tasks, found) < worst(tasks, best):
            best = found
        if worst(tasks, found) < CLOSE:
            break
        strengths = [_stepped(task, *one) for task, one in zip(tasks, found, strict=True)]
    return best


def worst(tasks: Sequence[Manifest], found: Sequence[tuple[float, float]]) -> float:
    """The largest Δ."""
    return max(distance(share, _balance(task).target) for task, (_, share) in zip(tasks, found, strict=True))


def _stepped(task: Manifest, strength: float, share: float) -> float:
    """A strength after a step towards the target, with the digits that are written."""
    off = _balance(task).target - share
    moved = strength + PACE * (off if toward(task) == 0 else -off)
    return round(min(max(moved, STRENGTH.least), STRENGTH.most), 3)


def toward(manifest: Manifest) -> int:
    """Which of the balance's descriptions the edit goes to.

    Raises:
        ManifestError: the manifest has no balance, or its edit goes to neither description.
    """
    found = _balance(manifest)
    if len(manifest.edits) > 1:
        raise ManifestError(f"{manifest.name} has several edits; a balance is for one.")
    for index, text in enumerate(found.descriptions):
        if same(text, manifest.edits[0].destination):
            return index
    raise ManifestError(
        f"{manifest.name}: balance.descriptions are {' and '.join(map(repr, found.descriptions))}; one of "
        f"them must be the edit's destination, {manifest.edits[0].destination!r}."
    )


def rises(manifest: Manifest, line: Axis) -> bool:
    """Whether the share of the first description rises along the axis: with strength, towards it; with λ, away."""
    return (toward(manifest) == 0) == (line is STRENGTH)


def _balance(manifest: Manifest) -> Balance:
    if manifest.balance is None:
        raise ManifestError(f"{manifest.name} has no [balance]; add one with descriptions and a validation prompt.")
    return manifest.balance


def require_tests(manifest: Manifest) -> None:
    """Refuse a manifest on which the harmonic mean cannot be measured."""
    for kind in ("positives", "negatives"):
        if not any(getattr(pair, kind) for pair in manifest.edits):
            raise ManifestError(f"{manifest.name} has no {kind}, and generality and specificity need both; add some.")


def written(manifest: Manifest, line: Axis, value: float) -> str:
    """The manifest's text with another value for all its edits; comments and order stay.

    Raises:
        ManifestError: it is written in a way in which that cannot be done.
    """
    way_out = "give it [solve] and [[edit]] tables"
    with explained(f"{line.key} cannot be written into {manifest.name}", way_out, ManifestError):
        document = tomlkit.parse(manifest.text)
        document.setdefault("solve", tomlkit.table())[line.key] = value
        for pair in document["edit"]:
            pair.pop(line.key, None)
        text = tomlkit.dumps(document)
    wanted = replace(line.applied(manifest, value), text=text)
    if parse(text, f"{manifest.name} with {line.key} {value:g}") != wanted:
        raise ManifestError(f"{line.key} cannot be written into {manifest.name}; {way_out}.")
    return text
