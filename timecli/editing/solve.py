"""The only formula: from text embeddings to the operator that edits every map that reads text.

TIME (Orgad et al. 2023, Eq. 4) asks, for each matrix W, with tokens as columns c (source) and c* (destination), for

    min over W'   Σ ‖W' c − W c*‖² + λ ‖W' − W‖²,

whose minimum is Eq. 5,

    W' = (λ W + Σ W c* cᵀ) (λ I + Σ c cᵀ)⁻¹.

Take W out to the left and subtract λ I + Σ c cᵀ from both sides of what remains:

    W' = W (I + D),     D = (C* − C) Cᵀ (λ I + C Cᵀ)⁻¹.

D is d x d, lives in text space, and is the same for every layer, for keys and for values. A bias stands on both sides
of Eq. 3 and cancels. Several pairs with their own λ_i: divide Eq. 4 by λ, so that pair i has weight 1/λ_i and λ I
becomes I. A prompt to preserve has c* = c: it adds to the inverse and nothing to C* − C.

Example: c = (1, 0), c* = (0, 1), λ = 1 moves the source exactly half way.

>>> operator = solve([(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([1.0]))])
>>> apply(torch.eye(2), operator).round(decimals=6)
tensor([[0.5000, 0.0000],
        [0.5000, 1.0000]])
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

SKETCH = 8
"""Numbers of a sketch."""


@dataclass(frozen=True)
class Operator:
    """D = left @ right, in factors.

    Attributes:
        left: `[d, r]` float32; float64 in an `inverse`, which is applied once and kept in no file.
        right: `[r, d]` likewise.
        condition: condition number of the system that was solved, in the 2-norm.
    """

    left: torch.Tensor
    right: torch.Tensor
    condition: float

    @property
    def rank(self) -> int:
        """How many directions of text space the edit writes to."""
        return self.left.shape[1]

    @property
    def width(self) -> int:
        """The d of text space."""
        return self.left.shape[0]

    @property
    def norm(self) -> float:
        """‖D‖ in the Frobenius norm."""
        left, right = self.left.double(), self.right.double()
        return float(((left.T @ left) * (right @ right.T)).sum().clamp(min=0).sqrt())

    @property
    def sketch(self) -> tuple[float, ...]:
        """X · D y for eight fixed pairs of random vectors of length √d: by which an operator is known again."""
        random = torch.Generator().manual_seed(0)
        x, y = torch.randn(2, SKETCH, self.width, generator=random, dtype=torch.float64)
        return tuple(((x @ self.left.double()) * (y @ self.right.double().T)).sum(1).tolist())

    def shift(self, states: torch.Tensor) -> torch.Tensor:
        """D c for every row c of `states` `[..., d]`, float64: how the edited model reads a prompt otherwise."""
        return (states.double() @ self.right.double().T) @ self.left.double().T


@dataclass(frozen=True)
class System:
    """P = I + C Λ Cᵀ of a joint solve, by the singular values and right singular vectors of the rows √Λ C.

    Attributes:
        s: S, `[r]` float64.
        v: V, `[r, d]` float64, orthonormal rows: P⁻¹ c = Vᵀ (I + S²)⁻¹ V c for every row c of C.
    """

    s: torch.Tensor
    v: torch.Tensor

    @property
    def condition(self) -> float:
        """That of P, in the 2-norm."""
        least = self.s.min().item() if len(self.s) == self.v.shape[1] else 0.0
        return (1 + self.s.max().item() ** 2) / (1 + least**2)

    def inverted(self, product: torch.Tensor) -> torch.Tensor:
        """A product `[k, d]` of some matrix and rows of C, times P⁻¹, in the coordinates V: `[k, r]`."""
        return (product @ self.v.T) / (1 + self.s**2)

    def operator(self, left: torch.Tensor) -> Operator:
        """The operator D = left V, for `left` `[d, r]` float64."""
        return Operator(*_factors(left, self.v), self.condition)


def stacked(root: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
    """Rows whose squares sum to those of `root` and `rows` together, no more than d of them where there are many."""
    found = rows if root is None else torch.cat([root, rows])
    return torch.linalg.qr(found, mode="r").R if len(found) > found.shape[1] else found


def decomposed(root: torch.Tensor | None) -> System:
    """The system of weighted rows √Λ C `[n, d]` float64."""
    if root is None:
        raise ValueError("there is nothing to solve")
    _, s, v = torch.linalg.svd(root, full_matrices=False)
    return System(s, v)


def solve(blocks: Iterable[tuple[torch.Tensor, ...]]) -> Operator:
    """The operator D of all pairs at once.

    With √w_i folded into the rows, C = Q R, and R = U S Vᵀ, D = (C* − C)ᵀ C V (I + S²)⁻¹ Vᵀ. R is built up block by
    block, so that memory does not grow with the number of pairs; it comes from C itself, so that the squared condition
    number of C Cᵀ never appears and a small λ costs few digits.

    Args:
        blocks: rows of C `[n, d]`, the same rows of C* `[n, d]`, and 1/λ of every row `[n]`; at least one.

    Returns:
        Balanced factors of D, computed in float64. Directions below float32's resolution of the largest are dropped.
    """
    root = product = None
    for source, destination, weight, *_ in blocks:
        scale = weight.double().sqrt()[:, None]
        rows, change = scale * source.double(), scale * (destination.double() - source.double())
        root = stacked(root, rows)
        product = change.T @ rows if product is None else product + change.T @ rows
    system = decomposed(root)
    assert product is not None
    return system.operator(system.inverted(product))


def inverse(operator: Operator, strength: float = 1.0) -> Operator:
    """The operator that takes an edit back: (I + s D)(I + D⁻) = I.

    With D = L R it is D⁻ = −s L (I + s R L)⁻¹ R (Woodbury), as small as D itself.

    Args:
        operator: D.
        strength: s, with which it was applied.

    Raises:
        ValueError: I + s D is singular, or so nearly that float32 has no digit left: what it took away is gone.
    """
    left, right = operator.left.double(), operator.right.double()
    system = torch.eye(operator.rank, dtype=torch.float64) + strength * (right @ left)
    if not system.isfinite().all() or not torch.linalg.cond(system) < 1 / torch.finfo(torch.float32).eps:
        raise ValueError("the edit cannot be taken back")
    return Operator(-strength * torch.linalg.solve(system, left, left=False), right, operator.condition)


def factored(matrix: torch.Tensor) -> Operator:
    """The operator D = `matrix`, `[d, d]`; the condition is that of no system and is 1."""
    left, right = _factors(matrix.double(), torch.eye(len(matrix), dtype=torch.float64))
    return Operator(left, right, 1.0)


def _factors(left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same product with the fewest columns, its singular values shared evenly, in float32.

    `right` has orthonormal rows, so that the singular values of `left` are those of the product.
    """
    u, s, v = torch.linalg.svd(left, full_matrices=False)
    keep = s > s.max() * torch.finfo(torch.float32).eps / 4
    share = s[keep].sqrt()
    return (u[:, keep] * share).float().contiguous(), (share[:, None] * (v[keep] @ right)).float().contiguous()


def apply(matrix: torch.Tensor, operator: Operator, strength: float = 1.0) -> torch.Tensor:
    """W' = W (I + strength · D) for W `[out, d]`, on W's device; float32, or float64 if W or D is.

    Of a wider W, the text meets the first d columns; the others stay.
    """
    wide = matrix.double() if torch.float64 in (matrix.dtype, operator.left.dtype) else matrix.float()
    left, right = (factor.to(wide) for factor in (operator.left, operator.right))
    text, rest = wide[:, : operator.width], wide[:, operator.width :]
    edited = torch.addmm(text, text @ left, right, alpha=strength)
    return torch.cat([edited, rest], dim=1) if rest.numel() else edited
