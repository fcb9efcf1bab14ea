"""Prompts to rows of the solve: `C` (source) and `C_star` (destination), matched token by token.

They are what Orgad et al. (2023) call c_i and c_i*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from timecli.manifests.manifest import Edit, Manifest
from timecli.text.encoding import TextEncoder

BATCH = 32


class Columns(NamedTuple):
    """Rows of a joint solve.

    Attributes:
        source: C, `[n, d]` float64.
        destination: C*, `[n, d]` float64; equal to `source` for what is to be preserved.
        weight: `[n]` float64, 1/λ of the row's pair.
    """

    source: torch.Tensor
    destination: torch.Tensor
    weight: torch.Tensor


def augmented(prompt: str, templates: Iterable[str]) -> list[str]:
    """The prompt and its augmentations, a leading article in lower case (appendix C)."""
    first, _, rest = prompt.partition(" ")
    inside = f"{first.lower()} {rest}" if first in ("A", "An") and rest else prompt
    return [prompt, *(template.replace("{}", inside) for template in templates)]


def augmented_pairs(edit: Edit, templates: Sequence[str]) -> list[tuple[str, str]]:
    """Source and destination, plain and in every augmentation."""
    return list(zip(*(augmented(prompt, templates) for prompt in (edit.source, edit.destination)), strict=True))


def columns(manifest: Manifest, encoder: TextEncoder) -> Iterator[Columns]:
    """The rows of the manifest's joint solve, some pairs at a time.

    Pair i enters with weight 1/λ_i, which is Eq. 4 divided by λ; with one λ this is Eq. 5 and appendix F.

    Raises:
        PromptError: a prompt is too long or a pair has nothing in common.
    """
    pairs = [
        (*pair, 1 / manifest.lam(edit))
        for edit in manifest.edits
        for pair in augmented_pairs(edit, manifest.solve.augment)
    ]
    kept = [text for prompt in manifest.preserve.prompts for text in augmented(prompt, manifest.solve.augment)]
    pairs += [(text, text, manifest.preserve.weight / manifest.solve.lam) for text in kept]
    for first in range(0, len(pairs), BATCH):
        yield _rows(pairs[first : first + BATCH], manifest.solve.tokens == "all", encoder)


def _rows(pairs: Sequence[tuple[str, str, float]], padding: bool, encoder: TextEncoder) -> Columns:
    """The rows of some pairs (source, destination, weight); with `padding` all positions take part."""
    sources, destinations, weights = zip(*pairs, strict=True)
    states = encoder.embed([*sources, *destinations])
    before, after, parts = states[: len(pairs)], states[len(pairs) :], []
    for i, (source, destination, weight) in enumerate(pairs):
        count = encoder.length if padding else len(encoder.tokens(source))
        same = list(range(encoder.length))
        rows = (same if source == destination else encoder.alignment(source, destination))[:count]
        parts.append((before[i, :count], after[i, rows], torch.full((count,), weight, dtype=torch.float64)))
    return Columns(*(torch.cat(column) for column in zip(*parts, strict=True)))
