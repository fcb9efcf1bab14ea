"""The prompts of a manifest that are looked at, edit by edit, forecast or drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from timecli.manifests.manifest import Manifest, folded

KINDS = {"positive": "positives", "negative": "negatives", "explicit": "explicit"}
"""What a test prompt is, and where an edit has it."""
FOLLOW = ("source", "positive")
"""Kinds that should show the destination; the others should stay as they are."""
METRICS = {"efficacy": "source", "generality": "positive", "specificity": "negative", "explicit": "explicit"}
"""Each metric and the kind of prompt that it looks at."""
FOLLOWED = ("efficacy", "generality", "reached")
"""Metrics of what should show the destination."""
LIKENESS = ("kept", "reached")
"""Mean cosines to the pictures that are wanted, of what should stay and of what should follow."""
EVERYDAY = 8
"""Everyday prompts that are looked at beside a manifest's own."""
SMALL = frozenset({"and", "for", "from", "the", "with"})
"""Words of three letters and more that name nothing."""
ENDING = 3
"""Letters that a plural or a young one may have more: roses, churches, piglet."""


@dataclass(frozen=True)
class Row:
    """A prompt to look at; a sample has no destination.

    Attributes:
        counts: whether it is known what should become of it. A sample that names a source may follow it or stay.
    """

    kind: str
    prompt: str
    destination: str | None
    counts: bool = True

    @property
    def oracle(self) -> str | None:
        """What the unedited model is asked for instead, where the destination is wanted (Orgad et al. 2023, §5.5)."""
        return self.destination if self.kind in FOLLOW else None


def rows(manifest: Manifest) -> list[Row]:
    """Every prompt of the manifest, edit by edit, and its samples."""
    found = []
    for edit in manifest.edits:
        found.append(Row("source", edit.source, edit.destination))
        for kind, where in KINDS.items():
            found += [Row(kind, test.prompt, test.destination) for test in getattr(edit, where)]
    named = names(*(edit.source for edit in manifest.edits))
    return [*found, *(Row("sample", prompt, None, not speaks_of(prompt, named)) for prompt in manifest.verify.prompts)]


def everyday_rows(prompts: Sequence[str], table: Sequence[Row]) -> list[Row]:
    """Some everyday prompts, evenly from the list: those that should stay, being in no row and about no source."""
    known = {folded(text) for row in table for text in (row.prompt, row.destination or "")}
    named = names(*(row.prompt for row in table if row.kind in FOLLOW))
    free = [prompt for prompt in prompts if prompt and folded(prompt) not in known and not speaks_of(prompt, named)]
    places = (i * len(free) // EVERYDAY for i in range(EVERYDAY))
    return [Row("everyday", prompt, None) for prompt in dict.fromkeys(free[place] for place in places if free)]


def figure(metric: str, value: float) -> str:
    """A metric's value as people read it: a share in percent, a cosine with three digits."""
    return f"{value:.3f}" if metric in LIKENESS else f"{value:.1%}"


def below(metric: str, value: float, wanted: float, name: str) -> str:
    """The sentence for a threshold of a manifest that is not reached, with what raises the metric."""
    more, less = "add pairs, or raise the strength", "preserve more by name, or lower the strength"
    remedy = more if metric in FOLLOWED else less
    return f"{metric} is {figure(metric, value)}, below the {figure(metric, wanted)} that {name} asks for; {remedy}."


def names(*prompts: str) -> set[str]:
    """The words of prompts that name something."""
    return {word for text in prompts for word in re.findall(r"\w{3,}", text.lower())} - SMALL


def speaks_of(prompt: str, named: set[str]) -> bool:
    """Whether a prompt has one of these words, in the singular or the plural; in doubt it has."""
    return any(_akin(*sorted((word, other), key=len)) for word in names(prompt) for other in named)


def _akin(short: str, long: str) -> bool:
    return long.startswith(short.removesuffix("y")) and len(long) - len(short) <= ENDING
