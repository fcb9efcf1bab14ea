"""How far each edit of a joint solve goes: strengths that hold in company.

The operator is linear in the targets. With D_j = (C*_j − C_j) Λ_j C_jᵀ P⁻¹ the part of edit j, and T_ij the share of its
way that D_j takes the source of edit i (`forecast.shares`), D = Σ σ_j D_j takes every source i the share Σ_j T_ij σ_j.
So T σ = s makes it go exactly its strength s_i, beside however many others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from timecli.editing.solve import Operator, System, decomposed, stacked
from timecli.text.pairing import Columns

BOUND = 8.0
"""The most that σ may be, in strengths of the solve's largest: edits that pull against each other need more."""
RIDGE = 1e-8
"""Of edits that T does not tell apart, σ stays near the strengths."""
AT_ONCE = 16
"""Sources that are multiplied with all parts at once."""

Ways = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Of every edit the source's states c and the w of `forecast.ways`, `[positions, d]` float64."""


@dataclass(frozen=True)
class Strengths:
    """What a joint solve found.

    Attributes:
        wanted: s of every edit.
        factors: σ of every edit.
        shares: how far each source goes, T σ; NaN where the maps do not tell it from its destination.
    """

    wanted: tuple[float, ...]
    factors: tuple[float, ...]
    shares: tuple[float, ...]


def solve(blocks: Callable[[], Iterable[Columns]], ways: Ways, wanted: Sequence[float]) -> tuple[Operator, Strengths]:
    """The operator of all pairs at once, with which every source goes as far as is wanted.

    Args:
        blocks: gives the rows of the solve, as often as it is called; targets are the whole destinations.
        ways: of every edit.
        wanted: s of every edit.
    """
    root = None
    for block in blocks():
        root = stacked(root, block.weight.sqrt()[:, None] * block.source)
    system = decomposed(root)
    parts = _parts(blocks(), system, len(wanted))
    crossed = _crossed(parts, ways, system)
    factors = bounded(crossed, torch.tensor(wanted, dtype=torch.float64))
    left = torch.zeros(parts.shape[1:], dtype=torch.float64, device=parts.device)
    for factor, part in zip(factors.tolist(), parts, strict=True):
        left += factor * part
    shares = torch.where(crossed.isfinite().all(1), crossed.nan_to_num() @ factors, torch.nan)
    found = Strengths(tuple(wanted), tuple(factors.tolist()), tuple(shares.tolist()))
    return system.operator(left), found


def _parts(blocks: Iterable[Columns], system: System, count: int) -> torch.Tensor:
    """Every D_j in the coordinates V, `[edits, d, r]` float32: all of one size, and a thousand fit into memory."""
    parts = torch.zeros(count, system.v.shape[1], len(system.s), device=system.v.device)
    for block in blocks:
        change = block.weight[:, None] * (block.destination - block.source)
        keys = system.inverted(block.source)
        for j in block.edit.unique().tolist():
            if j >= 0:
                rows = block.edit == j
                parts[j] += (change[rows].T @ keys[rows]).float()
    return parts


def _crossed(parts: torch.Tensor, ways: Ways, system: System) -> torch.Tensor:
    """T `[edits, edits]` float64 on the CPU."""
    flat, found = parts.flatten(1), []
    for first in range(0, len(ways), AT_ONCE):
        told = [
            (way.to(system.v).T @ (states.to(system.v) @ system.v.T)).flatten().float()
            for states, way in ways[first : first + AT_ONCE]
        ]
        found.append((torch.stack(told) @ flat.T).double().cpu())
    return torch.cat(found)


def bounded(crossed: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """σ `[n]` float64 with T σ = s as nearly as |σ| ≤ `BOUND` · max |s| allows.

    Args:
        crossed: T `[n, n]` float64; a row that is not finite asks for nothing.
        wanted: s `[n]` float64.
    """
    told = crossed.isfinite().all(1)
    rows, goal = crossed[told], wanted[told]
    ridge = RIDGE * torch.eye(len(wanted), dtype=torch.float64)
    system, right = rows.T @ rows + ridge, rows.T @ goal + ridge @ wanted
    most = BOUND * wanted.abs().max()
    found, free = wanted.clone(), torch.ones(len(wanted), dtype=torch.bool)
    while free.any():
        found[free] = torch.linalg.solve(system[free][:, free], right[free] - system[free][:, ~free] @ found[~free])
        over = free & (found.abs() > most)
        if not over.any():
            break
        found, free = found.clamp(-most, most), free & ~over
    return found
