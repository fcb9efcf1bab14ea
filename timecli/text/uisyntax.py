"""What user interfaces interpret in a prompt before they encode it, while here it is encoded letter by letter.

A1111 and Forge read round brackets as more emphasis and square ones as less, or as a schedule ("[dogs:cats:0.5]",
"[dogs|cats]"), a backslash as "this bracket is one", "<lora:name:0.8>" as a network to load, and BREAK and AND as where
a prompt is divided. ComfyUI reads round brackets, "embedding:name" and "{dogs|cats}".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from timecli.manifests.manifest import Manifest
from timecli.manifests.words import negations
from timecli.shown import and_more

if TYPE_CHECKING:  # `check` without a model needs no text encoder
    from timecli.text.readers import TextEncoder

SYNTAX = (
    # what is interpreted -> by whom
    (re.compile(r"(?<!\\)\(+[^()]*\)*"), "A1111, Forge and ComfyUI"),
    (re.compile(r"(?<!\\)\[+[^\[\]]*\]*"), "A1111 and Forge"),
    (re.compile(r"\\[()\[\]]?"), "A1111 and Forge"),
    (re.compile(r"<\w+:[^<>]+>"), "A1111 and Forge"),
    (re.compile(r"\b(?:BREAK|AND)\b"), "A1111 and Forge"),
    (re.compile(r"\bembedding:\S+"), "ComfyUI"),
    (re.compile(r"\{[^{}|]*\|[^{}]*\}"), "ComfyUI"),
)
PIECES = 4
"""A word in so many pieces is a rare one."""
SHOWN = 8
"""Pieces of a word that a sentence shows."""
TOKEN = re.compile(r"<[^<>\s:]+>")
"""How textual inversion writes the name of an embedding."""


def cautions(manifest: Manifest, encoder: TextEncoder | None = None) -> list[str]:
    """A sentence for every prompt that a user interface would encode otherwise.

    Args:
        manifest: whose prompts.
        encoder: tells which embeddings have a token of their own; without it they are not looked at.
    """
    interpreted: dict[str, list[str]] = {}
    embeddings: dict[str, str] = {}
    for prompt in dict.fromkeys(_prompts(manifest)):
        if parts := [f"{match[0].strip()!r} ({who})" for mark, who in SYNTAX for match in mark.finditer(prompt)]:
            interpreted.setdefault(", ".join(parts), []).append(prompt)
        elif encoder is not None and (names := [name for name in TOKEN.findall(prompt) if not encoder.knows(name)]):
            embeddings.setdefault(names[0], prompt)
    return [
        *(
            f"user interfaces interpret a part of {and_more(prompts)} before they encode it: {parts}; here it is "
            "encoded letter by letter, so write the words alone."
            for parts, prompts in interpreted.items()
        ),
        *(
            f"{name!r} in {prompt!r} is no token of this model and is encoded letter by letter; an embedding of that "
            "name must be in its tokenizer and its text encoder."
            for name, prompt in embeddings.items()
        ),
        *negations(manifest),
        *(_unknown(manifest, encoder) if encoder else ()),
    ]


def _unknown(manifest: Manifest, encoder: TextEncoder) -> list[str]:
    """A sentence for every word of the edits that the tokenizer cuts into many pieces: the model hardly knows it.

    Of a small vocabulary a short word that it lacks has few pieces, which are letters.
    """
    prompts = dict.fromkeys(text for edit in manifest.edits for text in (edit.source, edit.destination))
    words = dict.fromkeys(word for prompt in prompts for word in map(_bare, prompt.split()) if word)
    by_pieces = {tuple(encoder.pieces(word)): word for word in reversed(words)}  # 'glass' and 'Glass' are one
    cut = {word: pieces for pieces, word in by_pieces.items() if unknown(word, encoder)}
    return [
        f"{word!r} is {len(pieces)} pieces to this model ({_some(pieces)}), so it may not know the word; "
        "another may do better."
        for word, pieces in reversed(cut.items())
    ]


def _bare(word: str) -> str:
    """A word without what stands around it; nothing of what is an embedding's name."""
    return "" if TOKEN.fullmatch(word) else word.strip('.,;:!?()[]{}<>"“”')


def _some(pieces: Sequence[str]) -> str:
    more = ["…"] if len(pieces) > SHOWN else []
    return ", ".join([*pieces[:SHOWN], *more])


def unknown(word: str, encoder: TextEncoder) -> bool:
    """Whether a word is cut into so many pieces that the model hardly knows it, or into letters."""
    pieces = encoder.pieces(word)
    return len(pieces) >= PIECES or _spelled(word, pieces)


def _spelled(word: str, pieces: Sequence[str]) -> bool:
    """Whether a word of several letters is encoded letter by letter."""
    return word.isalpha() and len(pieces) > 1 and all(len(piece) == 1 for piece in pieces)


def _prompts(manifest: Manifest) -> Iterator[str]:
    for edit in manifest.edits:
        yield from (edit.source, edit.destination)
        for test in (*edit.positives, *edit.negatives, *edit.explicit):
            yield from (test.prompt, test.destination)
    yield from (*manifest.templates, *manifest.preserve.prompts, *manifest.verify.prompts)
    if manifest.balance:
        yield from (*manifest.balance.descriptions, *manifest.balance.validation, *manifest.balance.prompts)
