"""Edits of one solve that pull against each other, told by where their sources end."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from timecli.editing import forecast
from timecli.editing.delta import Delta
from timecli.editing.forecast import Way
from timecli.manifests.manifest import Manifest
from timecli.models.checkpoint import Checkpoint
from timecli.text.readers import TextEncoder

SHORT = 0.02
"""How far from its strength a source may end."""
ASIDE = 1.5
"""How far aside of its way a source may end, in lengths of the way."""


def conflicts(manifest: Manifest, checkpoint: Checkpoint, encoder: TextEncoder, delta: Delta) -> list[str]:
    """Sentences for sources that do not go as far as their strength says, or that another edit takes elsewhere.

    Args:
        manifest: the edits, one or several manifests'.
        checkpoint: the model.
        encoder: the model's.
        delta: the manifest, compiled with the everyday world preserved; without it strengths promise nothing.
    """
    if not delta.origin.factors:
        return []
    metric, found = forecast.metric(checkpoint, delta.origin, encoder), []
    ways = list(forecast.ways([(edit.source, edit.destination) for edit in manifest.edits], encoder, metric))
    for i, (edit, way) in enumerate(zip(manifest.edits, ways, strict=True)):
        moved, wanted = delta.operator.shift(way.states), manifest.strength(edit)
        share = float((moved * way.toward).sum())
        aside = _length(moved - share * way.change, metric) / _length(way.change, metric)
        other = _taken(i, moved, ways)
        short, far = abs(share - wanted) > SHORT, aside > ASIDE * max(abs(wanted), 1)
        if not short and not far:
            continue
        said = f"{edit.source!r} goes {share:.0%} of its way to {edit.destination!r}"
        said += f", not the {wanted:.0%} of its strength" if short else f", and {aside:.0%} aside"
        if other is not None:
            pair = manifest.edits[other]
            said += (
                f": {pair.source!r} -> {pair.destination!r} pulls against it; keep one of them, or lower a strength."
            )
        found.append(said)
    return found


def _length(states: torch.Tensor, metric: torch.Tensor) -> float:
    return float(((states @ metric) * states).sum().clamp(min=0).sqrt())


def _taken(i: int, moved: torch.Tensor, ways: Sequence[Way]) -> int | None:
    """On which other edit's way a source goes furthest, position by position; None where there is no other edit."""
    shares = []
    for way in ways:
        rows = min(len(moved), len(way.toward))
        shares.append(float((moved[:rows] * way.toward[:rows]).sum().nan_to_num()))
    others = [j for j in range(len(ways)) if j != i]
    return max(others, key=lambda j: abs(shares[j]), default=None)
