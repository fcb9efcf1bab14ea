"""How far prompts will go, from text alone: no picture is drawn and no UNet is built.

With M = Σ Wᵀ W over all matrices that are edited, a prompt c goes the share

    ⟨D c, c* − c⟩_M / ‖c* − c‖²_M

of its way to its destination c*, over all positions: what the network is given moves that far along what it would be
given for the destination. 0 stays, 1 arrives, above 1 goes past it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from timecli.editing.applying import covers
from timecli.editing.delta import Origin
from timecli.editing.solve import Operator
from timecli.models.checkpoint import Checkpoint
from timecli.text.encoding import TextEncoder


def metric(checkpoint: Checkpoint, origin: Origin) -> torch.Tensor:
    """M = Σ Wᵀ W over the matrices that an edit covers, `[d, d]` float64."""
    total = torch.zeros(checkpoint.width, checkpoint.width, dtype=torch.float64)
    for place, weight in checkpoint.projections(twins=False):
        if covers(origin, place.matrix):
            wide = weight.double()
            total += wide.T @ wide
    return total


def shares(
    pairs: Sequence[tuple[str, str]], encoder: TextEncoder, operator: Operator, metric: torch.Tensor
) -> list[float]:
    """How far each prompt goes to its destination.

    Args:
        pairs: prompts and destinations, with tokens in common and not the same (`TextEncoder.alignment`).
        encoder: the model's.
        operator: D.
        metric: M, `[d, d]` float64.
    """
    states = encoder.embed([prompt for pair in pairs for prompt in pair])
    found = []
    for (prompt, destination), before, after in zip(pairs, states[::2], states[1::2], strict=True):
        way = after[encoder.alignment(prompt, destination)] - before
        measured = way @ metric
        found.append(float((operator.shift(before) * measured).sum() / (way * measured).sum()))
    return found


def moves(prompts: Sequence[str], encoder: TextEncoder, operator: Operator, metric: torch.Tensor) -> list[float]:
    """How far prompts move that have no destination: ‖D c‖_M / ‖c‖_M over all positions."""
    found = []
    for states in encoder.embed(prompts):
        shift = operator.shift(states)
        found.append(float((((shift @ metric) * shift).sum() / ((states @ metric) * states).sum()).sqrt()))
    return found
