"""Compiling: a manifest's prompts become a delta. It needs the text encoder only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from timecli import __version__
from timecli.editing import forecast, strengths
from timecli.editing.delta import Delta, Origin
from timecli.editing.solve import Operator, solve
from timecli.errors import CheckpointError, ManifestError, PromptError
from timecli.manifests.company import preserved
from timecli.manifests.manifest import Manifest
from timecli.models.maps import Network, require_maps
from timecli.models.streams import POOLED, TEXT
from timecli.text import everyday, pairing
from timecli.text.everyday import Everyday
from timecli.text.readers import Reader, TextEncoder, require_finite


def problems(manifest: Manifest, encoder: TextEncoder) -> list[str]:
    """Every sentence with which compiling this manifest, or rendering its prompts, would be refused."""
    found: dict[str, None] = {}
    for edit in manifest.edits:
        templates = manifest.of(edit).templates
        tests = [*edit.positives, *edit.negatives, *edit.explicit]
        singles = [
            *pairing.augmented(edit.destination, templates),
            *(t.prompt for t in tests),
            *(t.destination for t in tests),
        ]
        for prompt in singles:
            _try(found, encoder.tokens, prompt)
        for pair in pairing.augmented_pairs(edit, templates):
            _try(found, encoder.alignment, *pair)
    kept = [text for one in preserved(manifest) for text in pairing.augmented(one.prompt, one.templates)]
    for prompt in (*kept, *manifest.verify.prompts):
        _try(found, encoder.tokens, prompt)
    return list(found)


def listed(manifest: Manifest, encoder: TextEncoder) -> list[str]:
    """The everyday prompts that the encoder reads to their end, whether they are preserved or not."""
    return [prompt for prompt in everyday.prompts(manifest, encoder) if not too_long([prompt], encoder)]


def too_long(prompts: Iterable[str], encoder: TextEncoder) -> list[str]:
    """Sentences for prompts that the text encoder would cut."""
    found: dict[str, None] = {}
    for prompt in prompts:
        _try(found, encoder.tokens, prompt)
    return list(found)


def _try(found: dict[str, None], function: Any, *arguments: str) -> None:
    try:
        function(*arguments)
    except PromptError as error:
        found[str(error)] = None


def compile_edit(
    manifest: Manifest,
    checkpoint: Network,
    encoder: TextEncoder,
    device: torch.device,
    world: Everyday | None = None,
    fresh: bool = True,
) -> Delta:
    """Prompts to a delta.

    Args:
        manifest: the edits, and what is to be preserved.
        checkpoint: the model, whose maps say how far a prompt goes; only read where the everyday world is preserved.
        encoder: the model's.
        device: where to calculate in float64.
        world: the everyday world; None measures it where the manifest preserves it.
        fresh: whether to encode all prompts; without it what was encoded for the same prompts before is used again.

    Raises:
        PromptError: a prompt is too long, or a pair has nothing in common.
        CheckpointError: the text encoder gives NaN or infinity, or reads another layer than the manifest asks for, or
            the model has none of the maps.
    """
    for key, value in (("clip_skip", encoder.clip_skip), ("length", encoder.asked)):
        if value != getattr(manifest.solve, key):
            raise CheckpointError(
                f"{manifest.name} has {key} {getattr(manifest.solve, key)} and the text encoder was read with {value}; "
                "read it with the manifest's."
            )
    require_maps(checkpoint, manifest.solve.matrices, manifest.solve.layers)
    if not manifest.preserve.world:
        world = None
    elif world is None:
        world = everyday.measured(manifest, encoder)
    if fresh:
        encoder.fresh()
    readers = encoder.readers if manifest.solve.everywhere else encoder.readers[:1]
    source = origin(manifest, encoder, world)
    operators, factors = {}, {}
    for reader in readers:
        blocks = partial(_blocks, manifest, reader, device, world)
        metric = forecast.metric(checkpoint, source, reader) if world else None
        operators[reader.stream], factors[reader.stream] = _solved(manifest, reader, blocks, metric)
    if not operators[TEXT].rank:
        if not any(map(manifest.strength, manifest.edits)):
            raise ManifestError(f"{manifest.name} has strength 0, which changes nothing; choose another.")
        raise PromptError(
            "the text encoder sees no difference between sources and destinations; the edit would do nothing."
        )
    changed = {stream: operator for stream, operator in operators.items() if operator.rank}
    return Delta(changed, replace(source, factors=factors[TEXT], pooled_factors=factors.get(POOLED, ())))


def _solved(
    manifest: Manifest, reader: Reader, blocks: strengths.Blocks, metric: torch.Tensor | None
) -> tuple[Operator, tuple[float, ...]]:
    """The operator of one stream, on the CPU, and σ of every part; without a metric the paper's, which has none."""
    if metric is None:
        return _on_cpu(solve(blocks())), ()
    parts = pairing.parts(manifest)
    ways = [list(forecast.ways(part.pairs, reader, metric)) for part in parts]
    wanted = [manifest.strength(edit) for edit in manifest.edits]
    operator, factors = strengths.solve(blocks, ways, [part.number for part in parts], wanted)
    return _on_cpu(operator), factors


def _blocks(
    manifest: Manifest, reader: Reader, device: torch.device, world: Everyday | None
) -> Iterator[pairing.Columns]:
    """The rows of one stream's solve, where they are calculated with."""
    for block in pairing.columns(manifest, reader, world):
        require_finite("the prompts", block.source, block.destination)
        yield pairing.Columns(*(part.to(device) for part in block))


def _on_cpu(operator: Operator) -> Operator:
    return Operator(operator.left.cpu(), operator.right.cpu(), operator.condition)


def origin(manifest: Manifest, encoder: TextEncoder, world: Everyday | None = None) -> Origin:
    """Where a delta of this manifest comes from."""
    return Origin(
        manifest.name,
        manifest.text,
        __version__,
        encoder.fingerprint,
        tuple(manifest.lam(edit) for edit in manifest.edits),
        manifest.solve.matrices,
        manifest.solve.layers,
        tuple((tuple(encoder.tokens(edit.source)), tuple(encoder.tokens(edit.destination))) for edit in manifest.edits),
        encoder.clip_skip,
        tuple(manifest.strength(edit) for edit in manifest.edits),
        world.digest if world else "",
        manifest.preserve.everyday_weight if world else 0.0,
        encoder.behind_norm,
        length=encoder.asked,
        states_of=encoder.states_of,
    )


def moved(manifest: Manifest, encoder: TextEncoder, operator: Operator) -> list[float]:
    """How much nearer each source came to its destination in text space: 0 stayed, 1 arrived.

    1 − ‖c + D c − c*‖ / ‖c − c*‖ over all positions of the pair, without augmentations. `forecast.shares` is what the
    matrices make of it: how far along the way, whatever goes elsewhere.
    """
    shares = []
    for edit in manifest.edits:
        rows = encoder.alignment(edit.source, edit.destination)
        source, destination = encoder.embed([edit.source])[0], encoder.embed([edit.destination])[0][rows]
        left = (source + operator.shift(source) - destination).norm() / (source - destination).norm()
        shares.append(1 - left.item())
    return shares


def drift(world: Everyday, operator: Operator) -> float:
    """How far the everyday prompts move in text space, all positions together: ‖D R‖ / ‖R‖."""
    root = world.roots[TEXT]
    return float(operator.shift(root).norm() / root.norm().clamp(min=torch.finfo(root.dtype).tiny))
