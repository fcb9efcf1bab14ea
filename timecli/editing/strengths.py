"""How far each edit of a joint solve goes: strengths that hold in company, and in every wording.

The operator is linear in the targets. A part j is the source of an edit, or its other wordings, which share a factor.
With D_j = (C*_j − C_j) Λ_j C_jᵀ P⁻¹, and T_ij the share of its way that D_j takes part i, on average over its wordings
(`forecast.shares`), D = Σ σ_j D_j takes it the share Σ_j T_ij σ_j. So T σ = s makes every source go exactly its
strength, beside however many others. Its other wordings should go as much further, or less far, as their edit alone
takes them: as nearly as factors allow that stay near their sources'.

The source alone would not do. Twelve professions of picturebook, solved for what they go alone, go as far together as
sources, and from .22 less far to .37 further in other wordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from timecli.editing.forecast import Way
from timecli.editing.solve import Operator, System, decomposed, stacked
from timecli.text.pairing import Columns

BOUND = 16.0
"""The most that σ may be, in shares of the furthest way of the solve: edits that pull against each other need more."""
RIDGE = 1e-8
"""Of edits that T does not tell apart, σ stays near the strengths."""
BESIDE = 2.0
"""The most that other wordings may go, in shares of what their source goes."""
EXACT, TOGETHER = 1e3, 0.1
"""What sources, and the two factors of an edit being one, count beside other wordings: roots of weights. A joint solve
of 34 edits has factors of -9 to 18 where the two are free, and of -1 to 11 so, at the same shares."""
AT_ONCE = 64
"""Rows of T that are multiplied at once: the parts of a thousand edits are read from memory each time."""

Blocks = Callable[[], Iterable[Columns]]
Ways = Sequence[Sequence[Way]]
"""The ways of the wordings of every part."""


def solve(
    blocks: Blocks, ways: Ways, edits: Sequence[int], strengths: Sequence[float]
) -> tuple[Operator, tuple[float, ...]]:
    """The operator of all pairs at once, with which every source goes as far as its strength says, and σ of every part.

    Args:
        blocks: gives the rows of the solve, as often as it is called; targets are the whole destinations.
        ways: of the wordings of every part.
        edits: the number of every part's edit; the first part of an edit is its source.
        strengths: s of every edit.
    """
    root = None
    for block in blocks():
        root = stacked(root, block.weight.sqrt()[:, None] * block.source)
    system = decomposed(root)
    parts = _parts(blocks(), system, len(ways))
    crossed = _crossed(parts, ways, system)
    factors = bounded(*_asked(crossed, torch.tensor(edits), torch.tensor(strengths, dtype=torch.float64))).tolist()
    left = torch.zeros(parts.shape[1:], dtype=torch.float64, device=parts.device)
    for factor, part in zip(factors, parts, strict=True):
        left += factor * part
    return system.operator(left), tuple(factors)


def _parts(blocks: Iterable[Columns], system: System, count: int) -> torch.Tensor:
    """Every D_j in the coordinates V, `[parts, d, r]` float32: all of one size, and a thousand fit into memory."""
    parts = torch.zeros(count, system.v.shape[1], len(system.s), device=system.v.device)
    for block in blocks:
        change = block.weight[:, None] * (block.destination - block.source)
        keys = system.inverted(block.source)
        for j in sorted(set(block.part.tolist()) - {-1}):
            rows = block.part == j
            parts[j] += (change[rows].T @ keys[rows]).float()
    return parts


def _crossed(parts: torch.Tensor, ways: Ways, system: System) -> torch.Tensor:
    """T `[parts, parts]` float64 on the CPU."""
    found = torch.empty(len(ways), len(parts), dtype=torch.float64)
    for first in range(0, len(ways), AT_ONCE):
        told = parts.new_zeros(len(ways[first : first + AT_ONCE]), *parts.shape[1:])
        for worded, row in zip(ways[first : first + AT_ONCE], told, strict=True):
            for way in worded:
                keys = (way.states.to(system.v) @ system.v.T).float()
                row.addmm_(way.toward.to(system.v).T.float(), keys, alpha=1 / len(worded))
        found[first : first + AT_ONCE] = (told.flatten(1) @ parts.flatten(1).T).double()
    return found


def _asked(
    crossed: torch.Tensor, edits: torch.Tensor, strengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `bounded` solves: a row for every part, and one for every two factors of an edit."""
    sources = torch.searchsorted(edits, edits)  # the first part of every part's edit
    others = (sources != torch.arange(len(edits))).nonzero()[:, 0]
    own = (crossed * (edits[:, None] == edits)).sum(1)
    beside = (own / own[sources]).nan_to_num(1.0).clamp(0.0, BESIDE)
    weight = torch.full((len(edits),), EXACT, dtype=torch.float64).index_fill(0, others, 1.0)
    both = torch.eye(len(edits), dtype=torch.float64)
    rows = torch.cat([weight[:, None] * crossed, TOGETHER * (both[others] - both[sources[others]])])
    goals = torch.cat([weight * strengths[edits] * beside, torch.zeros(len(others), dtype=torch.float64)])
    return rows, goals, strengths[edits]


def bounded(rows: torch.Tensor, goals: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """σ `[n]` float64 with which rows σ = goals as nearly as |σ| ≤ `BOUND` · max |near| allows.

    Args:
        rows: `[m, n]` float64; one that is not finite asks for nothing. The first n are those of the parts: what a part
            at the bound does not reach is asked of no other.
        goals: `[m]` float64.
        near: `[n]` float64: strengths, where nothing else decides.
    """
    count = len(near)
    asked, most = rows.isfinite().all(1), BOUND * near.abs().max()
    found, free = near.clone(), torch.ones(count, dtype=torch.bool)
    while free.any():
        left = rows[asked]
        system = left[:, free].T @ left[:, free] + RIDGE * torch.eye(int(free.sum()), dtype=torch.float64)
        right = left[:, free].T @ (goals[asked] - left[:, ~free] @ found[~free]) + RIDGE * near[free]
        found[free] = torch.linalg.solve(system, right)
        over = free & (found.abs() > most)
        if not over.any():
            break
        found, free = found.clamp(-most, most), free & ~over
        asked[:count] &= ~over
    return found
