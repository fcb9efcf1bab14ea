"""Prompts to rows of the solve: `C` (source) and `C_star` (destination), matched token by token.

They are what Orgad et al. (2023) call c_i and c_i*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from timecli.manifests.company import preserved
from timecli.manifests.keys import Edit
from timecli.manifests.manifest import Manifest
from timecli.text.encoding import BATCH
from timecli.text.everyday import Everyday
from timecli.text.readers import Reader


class Columns(NamedTuple):
    """Rows of a joint solve.

    Attributes:
        source: C, `[n, d]` float64.
        destination: C*, `[n, d]` float64; equal to `source` for what is to be preserved. Without the everyday world it
            is as far as its edit's strength goes: C + strength (C* − C).
        weight: `[n]` float64, 1/λ of the row's pair.
        part: `[n]` int64, to which of `parts` the row belongs; −1 for what is to be preserved.
    """

    source: torch.Tensor
    destination: torch.Tensor
    weight: torch.Tensor
    part: torch.Tensor


def augmented(prompt: str, templates: Iterable[str]) -> list[str]:
    """The prompt and its augmentations, a leading article in lower case where it leads no more (appendix C)."""
    first, _, rest = prompt.partition(" ")
    inside = f"{first.lower()} {rest}" if first in ("A", "An") and rest else prompt
    return [prompt, *(t.replace("{}", prompt if t.startswith("{}") else inside) for t in templates)]


def augmented_pairs(edit: Edit, templates: Sequence[str]) -> list[tuple[str, str]]:
    """Source and destination, plain and in every augmentation."""
    return list(zip(*(augmented(prompt, templates) for prompt in (edit.source, edit.destination)), strict=True))


class Part(NamedTuple):
    """What gets a factor σ of its own: the source of an edit, or its other wordings, which share one.

    Attributes:
        number: of the edit in the manifest.
    """

    number: int
    pairs: list[tuple[str, str]]


def parts(manifest: Manifest) -> list[Part]:
    """Those of all edits, in their order; an edit without other wordings has one part, others have two."""
    worded = [augmented_pairs(edit, manifest.of(edit).templates) for edit in manifest.edits]
    return [Part(i, part) for i, pairs in enumerate(worded) for part in (pairs[:1], pairs[1:]) if part]


class Pair(NamedTuple):
    """Two prompts of a solve: one wording of an edit, or twice what is to be preserved."""

    source: str
    destination: str
    weight: float
    strength: float = 1.0
    part: int = -1


def columns(manifest: Manifest, reader: Reader, everyday: Everyday | None) -> Iterator[Columns]:
    """The rows of the manifest's joint solve for one stream, some pairs at a time.

    Pair i enters with weight 1/λ_i, which is Eq. 4 divided by λ; with one λ this is Eq. 5 and appendix F. The everyday
    world enters last, with ρ = Σ `everyday_weight` / λ over all wordings of all edits.

    Raises:
        PromptError: a prompt is too long or a pair has nothing in common.
    """
    pairs, world = [], 0.0
    for i, (number, worded) in enumerate(parts(manifest)):
        edit = manifest.edits[number]
        weight, strength = 1 / manifest.lam(edit), 1.0 if everyday else manifest.strength(edit)
        pairs += [Pair(*pair, weight, strength, i) for pair in worded]
        world += len(worded) * weight * manifest.of(edit).preserve.everyday_weight
    for one in preserved(manifest):
        pairs += [Pair(text, text, one.weight) for text in augmented(one.prompt, one.templates)]
    for first in range(0, len(pairs), BATCH):
        yield _rows(pairs[first : first + BATCH], manifest.solve.tokens == "all", reader)
    if everyday is not None:
        root = everyday.roots[reader.stream]
        every = torch.full((len(root),), world, dtype=torch.float64)
        yield Columns(root, root, every, torch.full_like(every, -1, dtype=torch.int64))


def _rows(pairs: Sequence[Pair], padding: bool, reader: Reader) -> Columns:
    """The rows of some pairs; with `padding` all positions take part."""
    states = reader.embed([*(pair.source for pair in pairs), *(pair.destination for pair in pairs)])
    parts = []
    for pair, before, after in zip(pairs, states[: len(pairs)], states[len(pairs) :], strict=True):
        places = list(range(len(before))) if padding else reader.own(pair.source)
        source = before[places]
        target = source
        if pair.source != pair.destination:
            aligned = reader.alignment(pair.source, pair.destination)
            target = after[[aligned[place] for place in places]]
        reached = target if pair.strength == 1 else source + pair.strength * (target - source)
        weight = torch.full((len(source),), pair.weight, dtype=torch.float64)
        parts.append((source, reached, weight, torch.full_like(weight, pair.part, dtype=torch.int64)))
    return Columns(*(torch.cat(column) for column in zip(*parts, strict=True)))
