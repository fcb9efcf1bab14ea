"""What two prompts have in common, in sentences, tags and scripts without spaces between words."""

from __future__ import annotations

import re
from unicodedata import category

ARTICLES = {"a": "a", "an": "a", "the": "the"}
FOREIGN = {
    *("ein", "Ein", "eine", "Eine", "einen", "der", "Der", "das", "Das", "un", "une", "Une", "le", "la", "les", "des"),
    *("el", "los", "las", "una", "Una", "uno", "il", "gli", "een", "Een", "het", "Het", "um", "uma", "Uma"),
}
"""Articles with which a prompt in another language begins, written so that no name is one: "Los Angeles"."""
DETERMINERS = {
    *("this", "that", "these", "those", "some", "any", "no", "every", "each", "all", "both", "many", "several"),
    *("my", "your", "his", "her", "its", "our", "their", "another"),
}
HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Letters of which each is a word or a part of one with a meaning."""
UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff"
"""Letters of other scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana."""
_PIECE = re.compile(rf"[{HAN}]|(?=([{UNSPACED}]{{2}}))")
_SYNTAX = re.compile(r"[()\[\]{}<>|\\]|^[\"'“”„«]")
"""Letters that user interfaces read as syntax, and quotes around a prompt."""
_TAG = re.compile(r"\d+[^\W\d]\w*|\w*[^\W_]_\w+")
"""A word of a tag's kind: 1girl, blue_hair."""


def in_common(one: str, other: str) -> bool:
    """Whether two prompts share a word, without which no token of one goes to the same of the other."""
    return bool(_pieces(one) & _pieces(other))


def _pieces(text: str) -> set[str]:
    """Words without what stands around them; where there are no spaces, letters, or two side by side."""
    return {plain(word) for word in re.findall(r"\w+", text)} | {one[1] or one[0] for one in _PIECE.finditer(text)}


def is_english(*prompts: str) -> bool:
    """Whether prompts are sentences that can stand inside an English one: no tags, no syntax, no other language."""
    found = [word for text in prompts for word in text.split()]
    if any(_SYNTAX.search(text.strip()) for text in prompts) or found[0] in FOREIGN:
        return False
    latin = all(letter < "\u0250" or category(letter)[0] not in "LS" for letter in "".join(found))
    tags = any("," in text for text in prompts) or any(_TAG.match(word) for word in found)
    return latin and (found[0].lower() in {*ARTICLES, *DETERMINERS} or not tags)


def plain(word: str) -> str:
    """A word as it is compared: in small letters, "an" as "a"."""
    return ARTICLES.get(word.lower(), word.lower())
