"""What `timecli tune` tried and found, for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from timecli.commands import terminal
from timecli.shown import amount

if TYPE_CHECKING:
    from timecli.manifests.manifest import Manifest
    from timecli.measuring.tune import Trial

FEW = 4
"""Pictures of a prompt below which a search follows chance."""


def tried(task: Manifest, trial: Trial, objective: str, seeds: int) -> str:
    """One trial, as it is reported while the search goes on."""
    from timecli.measuring.objectives import axis

    shown = share(task, trial.score, seeds) if objective == "balance" else f"{trial.score:.1%}"
    lacks = f", {amount(len(trial.missed), 'threshold')} missed" if trial.missed else ""
    return f"{axis(task).key} {trial.value:g}: {shown}{lacks}"


def share(task: Manifest, found: float, seeds: int) -> str:
    """A share with what it can truly be."""
    from timecli.manifests.balances import interval

    return _told(found, interval(found, _pictures(task, seeds)))


def warn_of_few(task: Manifest, objective: str, seeds: int) -> None:
    """Say so where too few pictures are drawn to tell anything."""
    from timecli.measuring.objectives import VERDICT

    pictures = _pictures(task, seeds)
    if objective == "harmonic" and seeds < FEW:
        terminal.warn(f"chance decides with {amount(seeds, 'picture')} of a prompt; draw more with --seeds.")
    if objective == "balance" and pictures < VERDICT:
        which = "which proves nothing" if pictures == 1 else "which prove nothing"
        terminal.warn(f"{task.name} is measured on {amount(pictures, 'picture')}, {which}; draw more with --seeds.")


def summary(
    tasks: Sequence[Manifest], found: Sequence[Trial], unedited: Sequence[float], objective: str, seeds: int
) -> list[dict[str, Any]]:
    """What was found for every manifest."""
    from timecli.manifests import balances
    from timecli.measuring import objectives

    rows = []
    for i, (task, trial) in enumerate(zip(tasks, found, strict=True)):
        row: dict[str, Any] = {"manifest": task.name, objectives.axis(task).key: trial.value, "score": trial.score}
        if objective == "balance":
            pictures = _pictures(task, seeds)
            row |= {"unedited": unedited[i], "interval": list(balances.interval(trial.score, pictures))}
            row["verdict"] = pictures >= objectives.VERDICT
        elif objective == "harmonic":
            row |= {"missed": list(trial.missed), "verdict": seeds >= FEW}
        rows.append(row)
    return rows


def line(row: Mapping[str, Any], objective: str) -> str:
    """A manifest's value, with what it gives."""
    key = "lambda" if "lambda" in row else "strength"
    told = _told(row["score"], row["interval"]) if "interval" in row else f"{row['score']:.1%}"
    before = f", unedited {row['unedited']:.1%}" if "unedited" in row else ""
    few = "" if row.get("verdict", True) else "; too few pictures for a verdict"
    return f"{row['manifest']}: {key} {row[key]:g}, {objective} {told}{before}{few}"


def _pictures(task: Manifest, seeds: int) -> int:
    """Pictures on which a balance counts."""
    return seeds * len(task.balance.validation) if task.balance else 0


def _told(found: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{found:.1%} ({low:.0%} to {high:.0%} with 95 % confidence)"
