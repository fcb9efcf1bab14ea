"""Edits of one solve that pull against each other, told by where their sources end."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from timecli.editing import forecast
from timecli.editing.delta import Delta
from timecli.editing.forecast import Way
from timecli.manifests.company import preserved
from timecli.manifests.manifest import Manifest, folded
from timecli.models.maps import Network
from timecli.text.readers import TextEncoder

SHORT = 0.02
"""How far from its strength a source may end."""
ASIDE = 1.0
"""How far aside of its way a source may end, in lengths of the way. In a joint solve of 34 edits, half of all things of
picturebook, none goes further; alone they go .1 to .4."""
ALONE = 2.0
"""The same of an edit with no other beside it, whose source the encoder hardly tells from the everyday prompts."""


def conflicts(manifest: Manifest, checkpoint: Network, encoder: TextEncoder, delta: Delta) -> list[str]:
    """Sentences for sources that do not go as far as their strength says, or that another edit takes elsewhere.

    Args:
        manifest: the edits, one or several manifests'.
        checkpoint: the model.
        encoder: the model's.
        delta: the manifest, compiled with the everyday world preserved; without it strengths promise nothing.
    """
    if not delta.origin.factors:
        return []
    kept = [one.prompt for one in preserved(manifest)]
    found = [
        f"{prompt!r} is preserved by name, and {edit.source!r} is edited; take it out of preserve.prompts."
        for prompt in kept
        for edit in manifest.edits
        if folded(prompt) == folded(edit.source)
    ]
    metric = forecast.metric(checkpoint, delta.origin, encoder)
    ways = list(forecast.ways([(edit.source, edit.destination) for edit in manifest.edits], encoder, metric))
    for i, (edit, way) in enumerate(zip(manifest.edits, ways, strict=True)):
        moved, wanted = delta.operator.shift(way.states), manifest.strength(edit)
        share, whole = float((moved * way.toward).sum()), forecast.length(way.change, metric)
        if not whole:  # the maps do not tell it from its destination
            continue
        aside = forecast.length(moved - share * way.change, metric) / whole
        far = f"{edit.source!r} goes {share:.0%} of the way to {edit.destination!r}"
        if abs(share - wanted) > SHORT:
            found.append(f"{far}, not the {wanted:.0%} of its strength{_pulling(manifest, i, moved, ways)}.")
        elif aside > (ASIDE if len(ways) > 1 else ALONE) * max(abs(wanted), 1):
            found.append(f"{far}, and {aside:.0%} aside{_pulling(manifest, i, moved, ways)}.")
    return found


def _pulling(manifest: Manifest, i: int, moved: torch.Tensor, ways: Sequence[Way]) -> str:
    """On which other edit's way a source goes furthest, position by position, and what to do."""
    shares = []
    for way in ways:
        rows = min(len(moved), len(way.toward))
        shares.append(abs(float((moved[:rows] * way.toward[:rows]).sum().nan_to_num())))
    other = max((j for j in range(len(ways)) if j != i), key=lambda j: shares[j], default=None)
    if other is None:
        return "; lower preserve.everyday_weight or preserve.weight, or its strength"
    pair = manifest.edits[other]
    return f": {pair.source!r} -> {pair.destination!r} pulls against it; keep one of them, or lower a strength"
