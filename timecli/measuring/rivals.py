"""What is done to a model in a bench: TIME, with and without the everyday world, and the methods beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from timecli.editing import compiling, forecast
from timecli.editing.delta import Delta
from timecli.editing.solve import solve
from timecli.errors import CheckpointError
from timecli.files.safefile import finite
from timecli.manifests.manifest import Manifest
from timecli.measuring.schedule import Configuration
from timecli.models.checkpoint import Checkpoint
from timecli.models.layouts import HF_MARK
from timecli.models.streams import TEXT
from timecli.text import pairing
from timecli.text.encoding import ClipEncoder, Tower
from timecli.text.everyday import Everyday
from timecli.text.pairing import Columns
from timecli.text.readers import TextEncoder

UCE_LAMBDA = 0.5
"""The default of UCE's code (Gandikota et al. 2024)."""
RATE = 0.01
"""Adam's learning rate in appendix G."""
EMBEDIT_STEPS, EMBEDIT_RATE = 150, 0.02
"""Adam's steps and learning rate for one row of embeddings."""


@dataclass(frozen=True)
class Change:
    """An edit that a model can take on: a delta for its matrices, or weights for its text encoder."""

    delta: Delta | None = None
    text: dict[str, torch.Tensor] | None = None


def make(
    configuration: Configuration,
    manifest: Manifest,
    checkpoint: Checkpoint,
    encoder: TextEncoder,
    device: torch.device,
    iterations: int,
    world: Callable[[Manifest], Everyday | None],
) -> Change:
    """The edit of one manifest as a configuration has it.

    Args:
        configuration: the method and its settings; fine-tuning is for models with one text encoder.
        manifest: what to edit.
        checkpoint: the model, for the matrices whose projections fine-tuning aims at.
        encoder: the model's text encoder.
        device: where to calculate.
        iterations: steps of Adam for fine-tuning; 4000 in appendix G.
        world: the everyday world of a manifest.
    """
    if configuration.method == "finetune":
        return Change(text=finetune(manifest, checkpoint, encoder, configuration.eta, iterations))
    if configuration.method == "embedit":
        return Change(text=embedit(manifest, encoder))
    if configuration.method == "uce":
        return Change(delta=Delta({TEXT: solve([uce_columns(manifest, encoder)])}, compiling.origin(manifest, encoder)))
    return Change(delta=compiling.compile_edit(manifest, checkpoint, encoder, device, world(manifest)))


def _only(encoder: TextEncoder) -> Tower:
    """The text tower of a model that has one; others are refused before anything is trained."""
    assert isinstance(encoder, ClipEncoder)
    (tower,) = encoder.towers
    return tower


def _lessons(
    manifest: Manifest, encoder: TextEncoder, tower: Tower, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids `[n, positions]` of every source, and its destination's states `[n, positions, d]`, as `like` is."""
    pairs = [pair for one in manifest.edits for pair in pairing.augmented_pairs(one, manifest.templates)]
    goals = torch.stack([encoder.embed([d])[0][encoder.alignment(s, d)] for s, d in pairs]).to(like)
    return tower.padded([encoder.tokens(source) for source, _ in pairs]), goals


def uce_columns(manifest: Manifest, encoder: TextEncoder) -> Columns:
    """UCE's rows: of every prompt the last token before the end, λ 0.5, preserved prompts with weight 1."""
    pairs = [(pair.source, pair.destination) for pair in manifest.edits]
    pairs += [(prompt, prompt) for prompt in manifest.preserve.prompts]
    sides = []
    for prompts in zip(*pairs, strict=True):
        states = encoder.embed(prompts)
        sides.append(torch.stack([s[len(encoder.tokens(p)) - 2] for s, p in zip(states, prompts, strict=True)]))
    weight = torch.full((len(pairs),), 1 / UCE_LAMBDA, dtype=torch.float64)
    return Columns(sides[0], sides[1], weight, torch.zeros_like(weight, dtype=torch.int64))


def finetune(
    manifest: Manifest, checkpoint: Checkpoint, encoder: TextEncoder, eta: float, iterations: int
) -> dict[str, torch.Tensor]:
    """The text encoder trained to give sources the projections of their destinations (appendix G).

    Eq. 4 with λ = 0, over the text encoder's weights instead of the matrices: with E the encoder's states, the loss is
    Σ ‖W E − W C*‖² over all matrices W, which is (E − C*) M (E − C*)ᵀ with M = Σ Wᵀ W. Adam, with weight decay η.

    Returns:
        The trained parameters by their names in the text encoder, float32 on the CPU.

    Raises:
        CheckpointError: training ends in NaN.
    """
    tower = _only(encoder)
    device = tower.model.device
    weights = {name: tensor.clone().requires_grad_() for name, tensor in tower.model.weights.items()}
    trained = replace(tower.model, weights=weights)
    metric = forecast.metric(checkpoint, compiling.origin(manifest, encoder), encoder)
    ids, goals = _lessons(manifest, encoder, tower, tower.model.weights[HF_MARK])
    root = torch.linalg.cholesky(metric + 1e-9 * metric.diagonal().mean() * torch.eye(len(metric))).float().to(device)
    optimizer = torch.optim.Adam(weights.values(), lr=RATE, weight_decay=eta)
    for _ in range(iterations):
        optimizer.zero_grad()
        loss = ((trained.states(ids) - goals) @ root).square().sum()
        loss.backward()
        optimizer.step()
    found = {name: tensor.detach().cpu() for name, tensor in weights.items()}
    if not all(map(finite, found.values())):
        raise CheckpointError(f"fine-tuning for {manifest.name} ended in NaN; use another eta.")
    return found


def embedit(manifest: Manifest, encoder: TextEncoder) -> dict[str, torch.Tensor]:
    """The embedding rows of the sources' last tokens, trained to give the destinations' states.

    The way of EmbEdit (He et al. 2024, arXiv 2412.03400): Adam on the mean squared distance to the destinations'
    states, token by token, in every augmentation. The rest of the model stays.

    Returns:
        The trained table of embeddings by its name in the text encoder, float32 on the CPU.
    """
    tower = _only(encoder)
    table = tower.model.weights[HF_MARK]
    words = torch.tensor(sorted({encoder.tokens(pair.source)[-2] for pair in manifest.edits})).to(table.device)
    ids, goals = _lessons(manifest, encoder, tower, table)
    rows = table[words].clone().requires_grad_()
    optimizer = torch.optim.Adam([rows], lr=EMBEDIT_RATE)
    for _ in range(EMBEDIT_STEPS):
        optimizer.zero_grad()
        own = {**tower.model.weights, HF_MARK: table.index_copy(0, words, rows)}
        (replace(tower.model, weights=own).states(ids) - goals).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {HF_MARK: table.index_copy(0, words, rows.detach()).cpu()}
