"""The tokens at the positions of a text, and which of a destination's each is paired with.

Vocabularies mark a token that begins a word, and have another one for a word that begins a sentence; here both are the
word, so that "Roses" meets the roses of "Blue roses".
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from timecli.errors import PromptError
from timecli.models.streams import Family
from timecli.text.align import align
from timecli.text.readers import TextEncoder

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


class Segmented(TextEncoder):
    """A text encoder that says which tokens stand at which positions."""

    @abstractmethod
    def segments(self, prompt: str) -> tuple[Segment, ...]:
        """The tokens at a prompt's positions, one segment behind the other."""

    def words(self, prompt: str) -> list[str]:
        """The tokens at every position up to the last that is no padding, as text."""
        tokens = [token for segment in self.segments(prompt) for token in segment.tokens]
        return [plain(token) for token in tokens[: self.own(prompt)[-1] + 1]]

    def own(self, prompt: str) -> list[int]:
        """The positions that are not padding."""
        own = [one.first <= place < one.stop for one in self.segments(prompt) for place in range(len(one.tokens))]
        return [position for position, is_own in enumerate(own) if is_own]

    def alignment(self, source: str, destination: str) -> list[int]:
        """`align` in every segment, on the tokens as words: however they are cut off from what stands before them."""
        one, other = self.pieces(source), self.pieces(destination)
        if one == other:
            raise PromptError(f"{source!r} -> {destination!r}: both are the same tokens; the edit would do nothing.")
        if not {compared(token) for token in one} & {compared(token) for token in other}:
            raise PromptError(
                f"{source!r} -> {destination!r}: source and destination have no word in common; name the same thing in "
                "both."
            )
        found: list[int] = []
        behind = 0
        for before, after in zip(self.segments(source), self.segments(destination), strict=True):
            found += [behind + place for place in aligned(before, after)]
            behind += len(after.tokens)
        return found

    def fresh(self) -> None:
        """Prompts are encoded one at a time, so that what is remembered is what would be encoded."""


@dataclass(frozen=True, kw_only=True)
class OfFamily(Segmented):
    """A text encoder for the networks of a family, which tells the segments when it encodes.

    Attributes:
        family: of the network that reads the states.
        norm: the weight `[d]` of the RMS norm that the network has before its map of the text.
        known: the segments of every prompt that was encoded.
    """

    family: Family
    norm: torch.Tensor | None = None
    known: dict[str, tuple[Segment, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def behind_norm(self) -> bool:
        """Whether the network has a norm before its map of the text."""
        return self.norm is not None

    def normed(self, states: torch.Tensor) -> torch.Tensor:
        """What the norm, if there is one, makes of states `[positions, d]`."""
        if self.norm is None or self.family.norm is None:
            return states
        return functional.rms_norm(states.float(), self.norm.shape, self.norm.float(), self.family.norm[1])

    def segments(self, prompt: str) -> tuple[Segment, ...]:
        """The tokens at a prompt's positions, one segment behind the other."""
        if prompt not in self.known:
            self.remembered([prompt], 0)
        return self.known[prompt]
