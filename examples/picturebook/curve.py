"""The curve from how far a prompt goes to the share of its pictures that show the destination, fitted to drawn ones.

    python curve.py bench/results/fit/prompts.jsonl [more prompts.jsonl ...]

Fits 1 / (1 + exp(steep (half - share))) to the first file by its likelihood; of every file it prints the mean error of
that curve and of the one that `timecli plan` has. The files are those that `timecli bench` writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as likelihood

from timecli.editing import forecast


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """How far each prompt was forecast to go, and which share of its pictures show it, both `[n]` float64."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    told = [(row["forecast"], row["shown"]) for row in rows if row["forecast"] is not None]
    share, shown = torch.tensor(told, dtype=torch.float64).unbind(1)
    return share, shown


def fitted(share: torch.Tensor, shown: torch.Tensor) -> tuple[float, float]:
    """The most likely `half` and `steep`."""
    curve = torch.tensor([0.5, 8.0], dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([curve], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = likelihood(curve[1] * (share - curve[0]), shown)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(loss)  # type: ignore[no-untyped-call]
    half, steep = curve.detach().tolist()
    return half, steep


def main() -> None:
    drawn = [(path, *read(Path(path))) for path in sys.argv[1:]]
    own = fitted(*drawn[0][1:])
    print(f"fitted to {drawn[0][0]}: half {own[0]:.3f}, steep {own[1]:.2f}")
    for path, share, shown in drawn:
        errors = [
            (torch.sigmoid(steep * (share - half)) - shown).abs().mean().item()
            for half, steep in (own, (forecast.HALF, forecast.STEEP))
        ]
        print(f"{path}: {len(share)} prompts, mean error {errors[0]:.3f}; of the curve in use {errors[1]:.3f}")


if __name__ == "__main__":
    main()
