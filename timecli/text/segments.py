"""The tokens at the positions of a text, and which of a destination's each is paired with.

Vocabularies mark a token that begins a word, and have another one for a word that begins a sentence; here both are the
word, so that "Roses" meets the roses of "Blue roses".
"""

from __future__ import annotations

from dataclasses import dataclass

from timecli.text.align import align

MARKS = str.maketrans("", "", "▁Ġ")
"""What vocabularies put in front of a token that begins a word."""


@dataclass(frozen=True)
class Segment:
    """The tokens at some positions of the text, one behind the other: of one text encoder.

    Attributes:
        tokens: as the vocabulary has them.
        first: where those begin that are not padding.
        stop: where they end.
    """

    tokens: tuple[str, ...]
    first: int
    stop: int


def plain(token: str) -> str:
    """A token as text."""
    return token.translate(MARKS)


def compared(token: str) -> str:
    """A token as it is compared: a word is the same in front of a sentence and in it, and "an" is "a"."""
    word = plain(token).lower()
    return "a" if word == "an" else word


def aligned(source: Segment, destination: Segment) -> list[int]:
    """For every position of a segment the one of the destination's, padding before and behind one by one."""
    before, after = (
        ["", *(compared(token) for token in part.tokens[part.first : part.stop])] for part in (source, destination)
    )
    last, shift = len(destination.tokens) - 1, destination.first - source.first
    front = [max(0, place + shift) for place in range(source.first)]
    rows, others = (len(part.tokens) - part.first + 1 for part in (source, destination))
    inner = align(before, after, max(rows, others))[1:rows]
    return front + [min(destination.first + place - 1, last) for place in inner]
