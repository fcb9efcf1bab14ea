"""English nouns in both numbers, and their article. What is not known for certain is None."""

from __future__ import annotations

from functools import cache
from typing import Any

WITHOUT_SINGULAR = {
    *("jeans", "pants", "shorts", "tights", "trousers", "scissors", "glasses", "sunglasses", "goggles", "clothes"),
    *("pajamas", "pyjamas", "binoculars", "tennis", "christmas", "news", "mathematics", "gymnastics", "athletics"),
    *("ramen", "cyclamen", "specimen", "omen", "abdomen", "stamen", "regimen"),
}
"""Nouns that are no plural of a singular, or have none."""


@cache
def _engine() -> Any:
    import inflect

    return inflect.engine()


def with_article(words: str) -> str:
    """The words with "a" or "an" in front."""
    return str(_engine().a(words))


def plural_of(noun: str) -> str | None:
    """The plural, of the last word of several; None where none is known."""
    *front, head = noun.split()
    if head.lower() in WITHOUT_SINGULAR:
        return None
    made = f"{head}s" if head.isupper() else str(_engine().plural_noun(head))
    return None if made == f"{head}s" and head.lower().endswith("s") else " ".join([*front, made])


def singular_of(noun: str) -> str | None:
    """The singular of a plural; None for what is no plural."""
    engine, head = _engine(), noun.split()[-1]
    if head.lower() in WITHOUT_SINGULAR or engine.plural_noun(head) != f"{head}s":  # "bus" has a plural of its own
        return None
    single = engine.singular_noun(head)
    if not single or engine.plural_noun(single) != head:
        return None
    return " ".join([*noun.split()[:-1], str(single)])
