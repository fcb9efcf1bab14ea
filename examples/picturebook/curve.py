"""The curve from how far a prompt goes to the share of its pictures that show the destination, fitted to drawn ones.

    python curve.py bench/results/fit/prompts.jsonl [more prompts.jsonl ...]

Fits 1 / (1 + exp(steep (half - share))) to the first file by its likelihood; of every file and configuration it
prints the mean error of that curve and of the one that `timecli plan` has. The files are `timecli bench`'s.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as likelihood

from timecli.editing import forecast


def read(path: Path) -> dict[str, torch.Tensor]:
    """By configuration how far each prompt is to go, and the share of pictures that show it, `[2, n]` float64."""
    told: dict[str, list[tuple[float, float]]] = {}
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        if row["forecast"] is not None:
            told.setdefault(row["configuration"], []).append((row["forecast"], row["shown"]))
    return {name: torch.tensor(pairs, dtype=torch.float64).T for name, pairs in told.items()}


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
    drawn = {path: read(Path(path)) for path in sys.argv[1:]}
    first = sys.argv[1]
    own = fitted(*torch.cat([*drawn[first].values()], dim=1))
    print(f"fitted to {first}: half {own[0]:.3f}, steep {own[1]:.2f}")
    for path, tables in drawn.items():
        for name, (share, shown) in tables.items():
            errors = [
                (torch.sigmoid(steep * (share - half)) - shown).abs().mean().item()
                for half, steep in (own, (forecast.HALF, forecast.STEEP))
            ]
            print(
                f"{path}, {name}: {len(share)} prompts, mean error {errors[0]:.3f}, of the curve in use {errors[1]:.3f}"
            )


if __name__ == "__main__":
    main()
