"""What is looked for when a manifest is tuned, along which axis, and whether the manifest can be measured so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from timecli.errors import ManifestError
from timecli.manifests.keys import Balance
from timecli.manifests.manifest import Manifest, same, with_lambda, with_strength

OBJECTIVES = ("harmonic", "balance", "forecast")
VERDICT = 10
"""Pictures below which a share is no verdict."""


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
    return STRENGTH if manifest.preserve.world else LAMBDA


def toward(manifest: Manifest) -> int:
    """Which of the balance's descriptions the edit goes to.

    Raises:
        ManifestError: the manifest has no balance, or its edit goes to neither description.
    """
    found = balance_of(manifest)
    if len(manifest.edits) > 1:
        raise ManifestError(f"{manifest.name} has several edits; a balance is for one.")
    for index, text in enumerate(found.descriptions):
        if same(text, manifest.edits[0].destination):
            return index
    raise ManifestError(
        f"{manifest.name}: balance.descriptions are {' and '.join(map(repr, found.descriptions))}; one of "
        f"them must be the edit's destination, {manifest.edits[0].destination!r}."
    )


def suited(tasks: Sequence[Manifest]) -> str:
    """What manifests can be tuned for: a balance, where they have one and lack the tests that an edit needs."""
    tests = any(edit.positives and edit.negatives for task in tasks for edit in task.edits)
    return "balance" if all(task.balance for task in tasks) and not tests else "harmonic"


def rises(manifest: Manifest, line: Axis) -> bool:
    """Whether the share of the first description rises along the axis: with strength, towards it; with λ, away."""
    return (toward(manifest) == 0) == (line is STRENGTH)


def balance_of(manifest: Manifest) -> Balance:
    """What a manifest balances; raises ManifestError where it balances nothing."""
    if manifest.balance is None:
        raise ManifestError(f"{manifest.name} has no [balance]; add one with descriptions and a validation prompt.")
    return manifest.balance


def require_tests(manifest: Manifest) -> None:
    """Refuse a manifest on which the harmonic mean cannot be measured."""
    for kind in ("positives", "negatives"):
        if not any(getattr(pair, kind) for pair in manifest.edits):
            raise ManifestError(f"{manifest.name} has no {kind}; `tune` needs positives and negatives; add some.")
