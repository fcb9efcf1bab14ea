"""What a file's metadata says of an edit, checked: every value of a delta's origin and of an edited model's records."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from timecli.errors import ManifestError
from timecli.files.foreign import read_json
from timecli.manifests import kinds

STRING = kinds.kind("a text", lambda value: isinstance(value, str), {"type": "string"}, str)
NUMBER = kinds.number(-1e300, 1e300)
BOOLEAN = kinds.kind("true or false", lambda value: isinstance(value, bool), {"type": "boolean"}, bool)
TOKENS = kinds.list_of(kinds.whole("a token id", 0, 2**31 - 1))
KEYS = {
    "name": kinds.TEXT,
    "manifest": STRING,
    "version": STRING,
    "encoder": STRING,
    "base": STRING,
    "made": STRING,
    "streams": kinds.list_of(STRING),
    "lambdas": kinds.list_of(kinds.LAMBDA, minimum=0),
    "strength": NUMBER,
    "strengths": kinds.list_of(kinds.STRENGTH, minimum=0),
    "factors": kinds.list_of(NUMBER, minimum=0),
    "pooled_factors": kinds.list_of(NUMBER, minimum=0),
    "everyday": STRING,
    "list": STRING,
    "positions": kinds.TOKENS,
    "prompts": kinds.list_of(STRING),
    "sha256": STRING,
    "everyday_weight": kinds.number(0, 1e12),
    "norm": NUMBER,
    "sketch": kinds.list_of(NUMBER),
    "averages": BOOLEAN,
    "behind_norm": BOOLEAN,
    "condition": kinds.number(0, 1e300),
    "matrices": kinds.list_of(kinds.MATRIX, unique=True),
    "layers": kinds.either(None, None, kinds.list_of(kinds.LAYER, unique=True)),
    "clip_skip": kinds.COUNT,
    "length": kinds.either(None, None, kinds.COUNT),
    "states_of": STRING,
    "tokens": kinds.list_of(kinds.pair_of(TOKENS, unique=False), minimum=0),
}
"""How each value is read; lists become tuples."""


def table(value: Any, required: Collection[str], known: Collection[str]) -> dict[str, Any]:
    """The values of a JSON object, each as its kind reads it.

    Args:
        value: what `read_json` found.
        required: the keys that it must have.
        known: all keys that it may have, of `KEYS`.

    Raises:
        ManifestError: it is no object, lacks a key, has another, or a value is of another kind.
    """
    if not isinstance(value, dict):
        raise kinds.refuse("it", value, "an object")
    for key in required:
        if key not in value:
            raise ManifestError(f"{key} is missing")
    for key in value:
        if key not in known:
            raise ManifestError(f"{key} is not known")
    return {key: KEYS[key].read(part, key) for key, part in value.items()}


def edits(text: str) -> list[dict[str, Any]]:
    """A JSON list of records of edits, as they are; what a later timecli adds to them is not looked at.

    Raises:
        ValueError: it is no list of objects with a name each.
        ManifestError: a value is of another kind.
    """
    records = read_json(text)
    if not isinstance(records, list) or not all(isinstance(entry, dict) and "name" in entry for entry in records):
        raise ValueError("it must be a list of objects with a name")
    for i, entry in enumerate(records):
        for key in entry.keys() & KEYS.keys():
            KEYS[key].read(entry[key], f"[{i}].{key}")
    return records
