"""The optimiser and the loop that every stage of training shares."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

SAVE_EVERY = 120.0
"""Seconds between two copies on disk."""


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Muon(torch.optim.Optimizer):
    """Momentum whose every matrix is orthogonalised before the step (Jordan et al. 2024).

    Adam learns what is rare in the pictures (colour, beside light and dark) many times slower here. torch.optim.Muon
    takes matrices only; most of these weights are convolutions.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], lr: float):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 0.05)
                update = orthogonal(weight.grad.lerp(momentum, 0.95).flatten(1))
                weight.mul_(1 - 0.01 * group["lr"])
                # The usual size of an Adam step, so that both take the same learning rate (Liu et al. 2025).
                weight.add_(update.view_as(weight), alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Nearly U Vᵀ of the singular value decomposition, by five Newton-Schulz steps in bfloat16."""
    x = matrix.bfloat16()
    x = x.T if x.shape[0] > x.shape[1] else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)


def make_optimizers(model: torch.nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for weights, Adam for embeddings, norms and biases."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    weights = [p for p in model.parameters() if p.ndim in (2, 4) and id(p) not in embeddings]
    chosen = {id(p) for p in weights}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [Muon(weights, lr=rate), torch.optim.AdamW(others, lr=rate, weight_decay=0.01)]


def make_adam(model: torch.nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Adam for everything: Muon would take longer for its step than a small transformer for its gradient."""
    weights = [p for p in model.parameters() if p.requires_grad]
    return [torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)]


def fit(
    name: str,
    model: torch.nn.Module,
    loss_at: Callable[[int], torch.Tensor],
    steps: int,
    rate: float,
    work: Path,
    average: float = 0.0,
    optimizers_of: Callable[[torch.nn.Module, float], list[torch.optim.Optimizer]] = make_optimizers,
) -> None:
    """Warm-up and cosine, resumable. The weights that are kept are a moving average with factor `average`."""
    path = work / f"{name}.pt"
    model.to(device()).train()
    optimizers = optimizers_of(model, rate)
    mean = {key: value.clone() for key, value in model.state_dict().items()}
    step = 0
    if path.exists():
        state = torch.load(path, map_location=device(), weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        mean, step = state["mean"], state["step"]
    started, saved, first, recent = time.time(), time.time(), step, []
    while step < steps:
        torch.manual_seed(step)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = (
                rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            )
        loss = loss_at(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad()
        step += 1
        keep = min(average, step / (step + 10))
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if value.is_floating_point():
                    mean[key].lerp_(value, 1 - keep)
        recent.append(loss.item())
        if step % 50 == 0:
            left = (time.time() - started) / (step - first) * (steps - step)
            print(f"{name} {step}/{steps} loss {np.mean(recent):.4f}, {left / 60:.0f} min left", flush=True)
            recent = []
        if time.time() - saved > SAVE_EVERY or step == steps:
            kept = [optimizer.state_dict() for optimizer in optimizers]
            torch.save({"model": model.state_dict(), "optimizers": kept, "mean": mean, "step": step}, f"{path}.part")
            Path(f"{path}.part").replace(path)
            saved = time.time()
    model.load_state_dict(mean)
    model.eval()


def finished(name: str, model: torch.nn.Module, work: Path) -> torch.nn.Module:
    """`model` with what `fit` has kept so far."""
    model.load_state_dict(torch.load(work / f"{name}.pt", map_location=device(), weights_only=True)["mean"])
    return model.to(device()).eval()
