"""Which things prompts speak of: whether one prompt is about what another one names."""

from __future__ import annotations

import re
from collections.abc import Set
from functools import cache

from timecli.errors import ManifestError
from timecli.manifests.keys import Edit
from timecli.manifests.manifest import Manifest
from timecli.shown import and_more

SMALL = frozenset({"and", "for", "from", "the", "with"})
"""Words of three letters and more that name nothing."""
NOT = frozenset({"without", "no", "not"})
ENDING = 3
"""Letters that a plural or a young one may have more: roses, churches, piglet."""


def names(*prompts: str) -> set[str]:
    """The words of prompts that name something."""
    return {word for text in prompts for word in re.findall(r"\w{3,}", text.lower())} - SMALL


def speaks_of(prompt: str, named: Set[str]) -> bool:
    """Whether a prompt has one of these words, in the singular or the plural; in doubt it has."""
    return any(_akin(word, other) for word in names(prompt) for other in named)


def says_all(prompt: str, named: Set[str]) -> bool:
    """Whether a prompt has all of these words, in the singular or the plural."""
    return bool(named) and all(speaks_of(prompt, {word}) for word in named)


def same_things(one: str, other: str) -> bool:
    """Whether two prompts name the same things and no more, in the singular or the plural."""
    return says_all(one, names(other)) and says_all(other, names(one))


@cache
def thing(edit: Edit) -> frozenset[str]:
    """The words of what an edit changes: of "a pack of roses" the roses, of what is not understood all words."""
    from timecli.manifests import wording

    try:
        noun = wording.read(edit.source, edit.destination).noun
    except ManifestError:
        noun = ""
    return frozenset(names(noun or edit.source))


def negations(manifest: Manifest) -> list[str]:
    """A sentence where destinations say what should not be drawn, which text encoders hardly read."""
    found = [edit.destination for edit in manifest.edits if NOT & {*edit.destination.lower().split()}]
    if not found:
        return []
    return [
        f"{and_more(found)}: text encoders hardly read 'without', 'no' and 'not', so the model may draw what is named, "
        "and the judge may not see it; say what should be there instead."
    ]


def _akin(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long.startswith(short.removesuffix("y")) and len(long) - len(short) <= ENDING
