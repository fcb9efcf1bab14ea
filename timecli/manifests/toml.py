"""Pieces of TOML text, for manifests that are written and not edited."""

from __future__ import annotations

import json


def quoted(text: str) -> str:
    """A TOML string: a JSON string without surrogates, and TOML wants the delete character escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def line(key: str, value: str) -> str:
    """A key with a string."""
    return f"{key} = {quoted(value)}"


def probe(prompt: str, destination: str) -> str:
    """A test prompt in a list."""
    return f"    {{ prompt = {quoted(prompt)}, destination = {quoted(destination)} }},"
