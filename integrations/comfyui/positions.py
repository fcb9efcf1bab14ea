"""Which token stands at which position of what ComfyUI gives a network: a table, and a cut. No ComfyUI is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from timecli.errors import CheckpointError, PromptError
from timecli.models import layouts
from timecli.models.streams import Family
from timecli.text.segments import Segment

CLIP, T5 = ("l", "g", "h"), ("t5xxl",)
"""How ComfyUI calls the tokens of text encoders; those of one row stand at the same positions."""
SEQUENCES = {
    # family -> whose tokens stand one behind the other
    **{family.name: (CLIP,) for family in (layouts.SD1, layouts.SD2, layouts.SDXL)},
    layouts.SD3.name: (CLIP, T5),
    layouts.FLUX1.name: (T5,),
    layouts.CHROMA.name: (T5,),
}
"""All others have a single text encoder."""
EMBEDDING = -1
"""In place of a token, a vector of a textual inversion."""


@dataclass(frozen=True)
class Words:
    """What a text encoder's tokenizer says of its tokens.

    Attributes:
        names: tokens by their ids, as the vocabulary has them.
        end: id of the token behind a prompt; None for none.
        pad: id of the padding.
    """

    names: Mapping[int, str]
    end: int | None
    pad: int

    def text(self, token: int) -> str:
        """A token as text; a textual inversion has none."""
        return self.names.get(token, "").removesuffix("</w>") if token != EMBEDDING else "<embedding>"


def keys(family: Family, given: Sequence[str]) -> list[str]:
    """Under which names ComfyUI has the tokens of each segment.

    Args:
        family: the network's.
        given: names of the text encoders that the CLIP has.

    Raises:
        CheckpointError: the CLIP is none for this family.
    """
    rows = SEQUENCES.get(family.name, (tuple(given) if len(given) == 1 else (),))
    found = [next((name for name in row if name in given), "") for row in rows]
    if not any(found):
        raise CheckpointError(
            f"the CLIP has {' and '.join(given) or 'no text encoder'}, and this MODEL is {family.name}; connect the "
            "CLIP that it is drawn with."
        )
    return [name for name in found if name]


def single(prompt: str, chunks: Sequence[Sequence[Any]]) -> list[int]:
    """The token ids of a prompt that is read as one piece.

    Raises:
        PromptError: ComfyUI cuts it into several.
    """
    if len(chunks) > 1:
        raise PromptError(f"{prompt!r} is longer than the {len(chunks[0])} tokens that are read at once; shorten it.")
    return [token if isinstance(token, int) else EMBEDDING for token, *_ in chunks[0]]


def segments(parts: Sequence[tuple[Words, Sequence[int]]], rows: int) -> tuple[Segment, ...]:
    """The tokens at every position.

    Args:
        parts: of each segment the tokens with padding.
        rows: how many states there are; of a single segment's, fewer where ComfyUI cuts a template's beginning off.

    Raises:
        CheckpointError: tokens and states cannot be matched.
    """
    count = sum(len(tokens) for _, tokens in parts)
    if count != rows and (len(parts) > 1 or rows > count):
        raise CheckpointError(
            f"the CLIP gives {rows} states for the {count} tokens that this MODEL reads; connect the CLIP that it is "
            "drawn with."
        )
    return tuple(_segment(words, list(tokens)[count - rows :]) for words, tokens in parts)


def _segment(words: Words, tokens: list[int]) -> Segment:
    """Where in some tokens those are that are no padding."""
    if words.end is not None and words.end in tokens:
        stop = tokens.index(words.end) + 1
    else:
        stop = len(tokens) - next((i for i, token in enumerate(reversed(tokens)) if token != words.pad), 0)
    first = next((i for i, token in enumerate(tokens[:stop]) if token != words.pad), 0)
    return Segment(tuple(words.text(token) for token in tokens), first, stop)
