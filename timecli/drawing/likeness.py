"""How like two pictures are: what should stay against before, what should follow against the oracle's.

The paper's metrics ask which of two texts a picture shows, and a brown blot is no yellow daisy. Every prompt has a
picture that is wanted, drawn from the same seed: the unedited model's own for what should stay, the oracle's for what
should follow. *kept* and *reached* are the mean cosines to it in the judge's image features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import torch

from timecli.manifests.rows import FOLLOW, Row

Seen = Callable[[str], torch.Tensor]
"""What the judge sees in the pictures of a prompt, `[seeds, d]` float32 of length 1."""


def wanted(row: Row, before: Seen) -> torch.Tensor | None:
    """The features of the pictures that are wanted of the edited model; None where there are none."""
    if row.kind in FOLLOW:
        return before(row.destination) if row.destination else None
    return before(row.prompt)


def likeness(row: Row, before: Seen, after: Seen) -> list[float] | None:
    """Cosine to the picture that is wanted, for every seed."""
    goal = wanted(row, before)
    return None if goal is None else (after(row.prompt) * goal).sum(1).tolist()


def measured(table: Sequence[Row], before: Seen, after: Seen) -> dict[str, tuple[float, ...]]:
    """Kept, worst and reached, for every seed, of those that have rows."""
    return _together(table, lambda row: likeness(row, before, after))


def yardstick(table: Sequence[Row], before: Seen) -> dict[str, tuple[float, ...]]:
    """The same between one seed and the next of the unedited model, which draws the same thing otherwise."""
    return _together(table, lambda row: between_seeds(row, before))


def between_seeds(row: Row, before: Seen) -> list[float] | None:
    """Cosine between the picture that is wanted and that of the next seed, for every seed; None of one seed."""
    goal = wanted(row, before)
    return None if goal is None or len(goal) < 2 else (goal * goal.roll(1, 0)).sum(1).tolist()


def _together(table: Sequence[Row], cosines: Callable[[Row], list[float] | None]) -> dict[str, tuple[float, ...]]:
    """The mean over all rows that should follow, over all that should stay, and the least everyday one, by seed."""
    found: dict[str, list[list[float]]] = {"kept": [], "worst": [], "reached": []}
    everyday = []
    for row in table:
        if row.counts and (one := cosines(row)) is not None:
            found["reached" if row.kind in FOLLOW else "kept"].append(one)
            everyday += [one] if row.kind == "everyday" else []
    found["worst"] = [min(everyday, key=fmean)] if everyday else []
    return {name: tuple(fmean(seed) for seed in zip(*rows, strict=True)) for name, rows in found.items() if rows}
