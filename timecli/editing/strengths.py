"""How far each edit of a joint solve goes: strengths that hold in company.

The operator is linear in the targets. With D_j = (C*_j − C_j) Λ_j C_jᵀ P⁻¹ the part of edit j, and T_ij the share of
its way that D_j takes the source of edit i (`forecast.shares`), D = Σ σ_j D_j takes every source i the share Σ_j T_ij
σ_j. So T σ = s makes it go exactly its strength s_i, beside however many others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from timecli.editing.forecast import Way
from timecli.editing.solve import Operator, System, decomposed, stacked
from timecli.text.pairing import Columns

BOUND = 16.0
"""The most that σ may be, in strengths of the solve's largest: edits that pull against each other need more."""
RIDGE = 1e-8
"""Of edits that T does not tell apart, σ stays near the strengths."""
AT_ONCE = 64
"""Sources that are multiplied with all parts at once: the parts of a thousand edits are read from memory each time."""

Blocks = Callable[[], Iterable[Columns]]


def solve(blocks: Blocks, ways: Sequence[Way], wanted: Sequence[float]) -> tuple[Operator, tuple[float, ...]]:
    """The operator of all pairs at once, with which every source goes as far as is wanted, and σ of every edit.

    Args:
        blocks: gives the rows of the solve, as often as it is called; targets are the whole destinations.
        ways: of every edit's source.
        wanted: s of every edit.
    """
    root = None
    for block in blocks():
        root = stacked(root, block.weight.sqrt()[:, None] * block.source)
    system = decomposed(root)
    parts = _parts(blocks(), system, len(wanted))
    factors = bounded(_crossed(parts, ways, system), torch.tensor(wanted, dtype=torch.float64)).tolist()
    left = torch.zeros(parts.shape[1:], dtype=torch.float64, device=parts.device)
    for factor, part in zip(factors, parts, strict=True):
        left += factor * part
    return system.operator(left), tuple(factors)


def _parts(blocks: Iterable[Columns], system: System, count: int) -> torch.Tensor:
    """Every D_j in the coordinates V, `[edits, d, r]` float32: all of one size, and a thousand fit into memory."""
    parts = torch.zeros(count, system.v.shape[1], len(system.s), device=system.v.device)
    for block in blocks:
        change = block.weight[:, None] * (block.destination - block.source)
        keys = system.inverted(block.source)
        for j in sorted(set(block.edit.tolist()) - {-1}):
            rows = block.edit == j
            parts[j] += (change[rows].T @ keys[rows]).float()
    return parts


def _crossed(parts: torch.Tensor, ways: Sequence[Way], system: System) -> torch.Tensor:
    """T `[edits, edits]` float64 on the CPU."""
    found = torch.empty(len(ways), len(parts), dtype=torch.float64)
    for first in range(0, len(ways), AT_ONCE):
        some = ways[first : first + AT_ONCE]
        told = parts.new_empty(len(some), *parts.shape[1:])
        for way, row in zip(some, told, strict=True):
            keys = (way.states.to(system.v) @ system.v.T).float()
            torch.mm(way.toward.to(system.v).T.float(), keys, out=row)
        found[first : first + AT_ONCE] = (told.flatten(1) @ parts.flatten(1).T).double()
    return found


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
