"""Which destination token each source token is edited towards. Integers in, integers out.

    source        <start> a      rose             <end>   pad pad ...
    destination   <start> a blue rose             <end>   pad pad ...
    alignment     0       1      3                4       5   6   ...  76

A source token goes to the same token later in the destination, left to right (Orgad et al. 2023, §4); what the
destination adds is skipped, but its meaning is in the tokens behind it. After the end token the remaining positions
follow one by one and the last repeats when they run out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise

from timecli.errors import PromptError


def align(source: Sequence[Hashable], destination: Sequence[Hashable], length: int) -> list[int]:
    """Destination position for each of the `length` source positions.

    Args:
        source: tokens from the start to the end token, without padding; ids, or whatever can be compared.
        destination: likewise.
        length: positions of the encoder's output, padding included.

    Raises:
        PromptError: the two share no token between start and end.
    """
    matches = _common(source, destination)
    paired: list[int] = []
    for (i, j), (next_i, next_j) in pairwise([*matches, (len(source), len(destination))]):
        paired += [j, *_replaced(next_i - i - 1, j + 1, next_j)]
    return paired + [
        min(position, length - 1) for position in range(paired[-1] + 1, paired[-1] + 1 + length - len(paired))
    ]


def _common(source: Sequence[Hashable], destination: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Matches of a longest common subsequence; start and end tokens are always among them."""
    inner = _longest(source[1:-1], destination[1:-1])
    if not inner and len(source) > 2:
        raise PromptError("source and destination have no word in common; name the same thing in both.")
    return [(0, 0), *((i + 1, j + 1) for i, j in inner), (len(source) - 1, len(destination) - 1)]


def _longest(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """As early in `b` as can be: where all of `a` stands in `b`, that is the paper's walk from left to right."""
    size = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            size[i][j] = size[i + 1][j + 1] + 1 if a[i] == b[j] else max(size[i + 1][j], size[i][j + 1])
    matches, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            matches.append((i, j))
            i, j = i + 1, j + 1
        elif size[i + 1][j] >= size[i][j + 1]:
            i += 1
        else:
            j += 1
    return matches


def _replaced(count: int, first: int, stop: int) -> list[int]:
    """Counterparts of `count` source tokens among the destination positions from `first` to `stop`, exclusive.

    Counted from the right, because the last word of a phrase carries it (in "polar bear" the bear has seen the polar).
    A word that was taken out goes to the token that now stands in its place.
    """
    last = max(stop - 1, first)
    return [max(last - back, first) for back in reversed(range(count))]
