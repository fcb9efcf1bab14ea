"""Mistral's own form of a tokenizer, `tekken.json`, as transformers' `tokenizer.json`.

ComfyUI keeps it in the file of FLUX.2's text encoder, and reads it in this way.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Sequence
from itertools import chain
from typing import Any

TENSOR = "tekken_model"
"""The tensor that a text encoder's file holds it in, its bytes as uint8."""
START, PAD = "<s>", "<pad>"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How ComfyUI cuts a text before the vocabulary is asked: as the converter in transformers 4 does on its own account,
since it does not hand over the pattern that the file has."""
LONGEST = 512
"""Bytes of a token that are more than any has; each is split at every place."""
_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
LETTERS = {
    **{byte: chr(byte) for byte in _PRINTABLE},
    **{byte: chr(256 + number) for number, byte in enumerate(_OTHERS)},
}
"""The printable stand-ins for the 256 bytes, in the order of GPT-2's and CLIP's vocabularies."""


def tokenizer(stored: bytes) -> dict[str, Any]:
    """What `tokenizer.json` says.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: it is no `tekken.json`.
    """
    about = json.loads(stored)
    special = [str(one["token_str"]) for one in sorted(about["special_tokens"], key=lambda one: int(one["rank"]))]
    room = about["config"]["default_vocab_size"] - len(special)  # a file has more tokens than text encoders know
    kept = sorted(
        (one["rank"], b64decode(one["token_bytes"], validate=True)) for one in about["vocab"] if one["rank"] < room
    )
    tokens = [token for _, token in kept]
    numbers = {name: number for number, name in enumerate(chain(special, map(_letters, tokens)))}
    ends = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "added_tokens": [_added(number, name) for number, name in enumerate(special)],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, ends]},
        "post_processor": _started(special.index(START)),
        "decoder": ends,
        "model": {"type": "BPE", "vocab": numbers, "merges": _merges(tokens), "ignore_merges": True},
    }


def _letters(token: bytes) -> str:
    return "".join(LETTERS[byte] for byte in token)


def _merges(tokens: Sequence[bytes]) -> list[tuple[str, str]]:
    """Which two tokens become one, the first first: of every token all pairs, since only their order is kept."""
    ranks = {token: rank for rank, token in enumerate(tokens)}
    found = []
    for token in ranks:
        if len(token) > LONGEST:
            raise ValueError(f"it has a token of {len(token)} bytes")
        pairs = [(token[:place], token[place:]) for place in range(1, len(token))]
        known = [(ranks[left], ranks[right]) for left, right in pairs if left in ranks and right in ranks]
        found += [(_letters(tokens[left]), _letters(tokens[right])) for left, right in sorted(known)]
    return found


def _added(number: int, name: str) -> dict[str, Any]:
    sides = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": name, "special": True, **sides}


def _started(number: int) -> dict[str, Any]:
    """The token before every text."""
    first, own = {"SpecialToken": {"id": START, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [first, own],
        "pair": [first, own, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {START: {"id": START, "ids": [number], "tokens": [START]}},
    }
