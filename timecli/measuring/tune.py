"""One number, found by drawing: the best trade-off, or a balance of two descriptions (Orgad et al. 2023, §6).

The number is the strength of the edits where the everyday world is preserved, and λ where it is not.
A search walks along its axis, starts from the forecast, and draws for no value twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from timecli.manifests.balances import distance
from timecli.manifests.manifest import Manifest, with_strength
from timecli.measuring.objectives import LAMBDA, STRENGTH, Axis, axis, balance_of, rises, toward
from timecli.measuring.schedule import joint
from timecli.measuring.trials import Drawings, Forecasts

CLOSE = 0.1
"""Δ_p at which the balance is found (appendix H.2)."""
TRIALS = 16
ROUNDS, PACE = 10, 0.35
"""Of a joint balance: how often all strengths move, and how far for a share that is off by one."""


@dataclass(frozen=True)
class Trial:
    """What one value gave.

    Attributes:
        value: λ or the strength.
        score: the mean of `Drawings.mean`, or the share of the balance's first description.
        missed: sentences for the thresholds that it does not reach.
    """

    value: float
    score: float
    missed: Sequence[str] = ()


Try = Callable[[float], float]
"""value -> share, by drawing."""


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
        return harmonic(first, line, lambda value: Trial(value, *drawings.mean(line.applied(manifest, value))), report)
    first, target = halfway(manifest, line, forecasts), balance_of(manifest).target
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


def harmonic(first: float, line: Axis, attempt: Callable[[float], Trial], report: Callable[[Trial], None]) -> Trial:
    """The value with the best score: uphill by long steps, then by half of them and a quarter, on both sides.

    Fewer thresholds missed count before any score. Of equal scores the smaller change counts, and the search walks on
    that way while the score holds.
    """
    seen: dict[float, Trial] = {}

    def at(place: float) -> Trial:
        place = round(min(max(place, line.least), line.most), 3)
        if place not in seen:
            seen[place] = attempt(line.value(place))
            report(seen[place])
        return seen[place]

    def rank(place: float) -> tuple[int, float, float]:
        trial = at(place)
        return -len(trial.missed), trial.score, line.gentle * trial.value

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


def balance_all(tasks: Sequence[Manifest], drawings: Drawings, report: Callable[[str, Trial], None]) -> list[Trial]:
    """Strengths at which one joint edit balances every manifest, each with its share, of the best round.

    Debiasing one profession moves the others (Figure 10), so all strengths take a step at once, as far as their own
    shares are off, and everything is drawn again, until what is not balanced has no step left.
    """
    strengths = [task.strength(task.edits[0]) for task in tasks]
    best: list[Trial] = []
    for _ in range(ROUNDS):
        edited = joint([with_strength(task, value) for task, value in zip(tasks, strengths, strict=True)])[0]
        shares = drawings.shares(edited, tasks)
        found = list(map(Trial, strengths, shares))
        for task, trial in zip(tasks, found, strict=True):
            report(task.name, trial)
        if not best or fmean(deltas(tasks, found)) < fmean(deltas(tasks, best)):
            best = found
        strengths = [_stepped(task, trial) for task, trial in zip(tasks, found, strict=True)]
        steps = zip(deltas(tasks, found), found, strengths, strict=True)
        if all(delta < CLOSE or trial.value == value for (delta, trial, value) in steps):
            break
    return best


def deltas(tasks: Sequence[Manifest], found: Sequence[Trial]) -> list[float]:
    """Δ of every manifest."""
    return [distance(trial.score, balance_of(task).target) for task, trial in zip(tasks, found, strict=True)]


def _stepped(task: Manifest, trial: Trial) -> float:
    """The strength after a step towards the target, with the digits that are written."""
    off = balance_of(task).target - trial.score
    moved = trial.value + PACE * (off if toward(task) == 0 else -off)
    return round(min(max(moved, STRENGTH.least), STRENGTH.most), 3)
