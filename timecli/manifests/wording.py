"""A pair of prompts taken apart: which thing is edited, what was put where, and how the same is said otherwise.

    a cow          a cow on the beach          noun "cow", behind it "" became "on the beach"
    a coffee mug   a steel coffee mug          noun "coffee mug", before it "" became "steel"
    a pack of roses   a pack of blue roses     noun "roses", before it "" became "blue"

English only. What it does not understand it leaves alone: `Change.noun` is empty then, as of tags ("1girl, blue hair")
and of languages that are written without spaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from unicodedata import normalize

from timecli.errors import ManifestError
from timecli.manifests.common import ARTICLES, DETERMINERS, in_common, is_english, plain
from timecli.manifests.manifest import same
from timecli.manifests.plurals import plural_of, singular_of, with_article
from timecli.manifests.values import KINDS, NUMBERS

PREPOSITIONS = {
    *("about", "above", "across", "against", "along", "among", "around", "as", "at", "behind", "below", "beneath"),
    *("beside", "between", "by", "during", "for", "from", "in", "inside", "into", "like", "near", "next", "of", "off"),
    *("on", "onto", "outside", "over", "through", "to", "toward", "towards", "under", "underneath", "upon", "via"),
    *("with", "within", "without", "and", "or", "that", "who", "which", "where", "made", "full", "while"),
}
"""Words that a noun phrase ends before."""
THINGS = {
    *("building", "painting", "drawing", "ring", "king", "wing", "string", "spring", "wedding", "swing", "earring"),
    *("ceiling", "railing", "sibling", "duckling", "dumpling", "herring", "evening", "morning", "pudding", "thing"),
    *("viking", "stocking", "seedling", "sapling", "gosling", "clothing", "lightning", "awning", "fling", "wing"),
}
"""Nouns that end as what somebody does ends."""
STYLES = {"photo", "photograph", "picture", "image", "painting", "drawing", "sketch", "cartoon", "portrait", "poster"}
SINGULAR = {
    *("his", "her", "hers", "its", "himself", "herself", "itself", "he", "she", "it", "is", "was", "has", "does"),
    *("woman", "man"),  # of women firefighters there are no "woman firefighters"
}
"""Words that go with one only."""
PLURAL = {*NUMBERS, "their", "are", "were", "have", "do"}
"""Words that go with several."""
_WORD = re.compile(r"[^\W\d_][\w'’-]*")


@dataclass(frozen=True)
class Change:
    """What a pair of prompts changes.

    Attributes:
        source: the prompt, with a capital letter where it was understood.
        destination: likewise.
        article: "a", "the", or none.
        noun: what is edited; empty where the pair was not understood.
        becomes: the noun in the destination, nearly always the same.
        old: the words before and behind the noun in the source.
        new: those in the destination.
        plural: whether the noun stands in the plural.
        other: the noun and what it becomes in the other number; none where it has none.
        framed: whether the pair says more than this: "a pack of" roses.
    """

    source: str
    destination: str
    article: str = ""
    noun: str = ""
    becomes: str = ""
    old: tuple[str, str] = ("", "")
    new: tuple[str, str] = ("", "")
    plural: bool = False
    other: tuple[str, str] | None = None
    framed: bool = False

    @property
    def behind(self) -> bool:
        """Whether something was put behind the noun."""
        return self.old[1] != self.new[1]

    @property
    def has_neighbours(self) -> bool:
        """Whether another thing can stand in its place: there is no "tulip of wine"."""
        return bool(self.noun) and not self.old[1].startswith("of ")

    def said(self, also: str = "") -> tuple[str, str]:
        """Source and destination with a small letter, in the number of the source; `also` stands before both."""
        if not self.noun:
            return small(self.source), small(self.destination)
        return self._both(self.noun, self.becomes, "" if self.plural else self.article, also)

    def said_otherwise(self, also: str = "") -> tuple[str, str] | None:
        """The same in the other number: "roses" and "blue roses"."""
        return self._both(*self.other, "a" if self.plural else "", also) if self.other else None

    def of_one(self) -> Change:
        """The same of one thing, where its number can be changed: "a rose" of "roses"."""
        if not (self.plural and self.other):
            return self
        noun, becomes = self.other
        several = self.noun, self.becomes
        return replace(self, article="a", plural=False, noun=noun, becomes=becomes, other=several)

    def said_of(self, noun: str) -> tuple[str, str]:
        """The same of another thing, a noun in the singular: "a tulip" and "a blue tulip"."""
        if self.plural:
            noun = plural_of(noun) or noun
        return self._both(noun, noun if self.becomes == self.noun else self.becomes, "" if self.plural else "a")

    def _both(self, noun: str, becomes: str, article: str, also: str = "") -> tuple[str, str]:
        return phrase(article, self.old, noun, also), phrase(article, self.new, becomes, also)


def phrase(article: str, around: tuple[str, str], noun: str, also: str = "") -> str:
    """An article, which suits the word behind it, and a noun between its words."""
    words = " ".join(part for part in (also, around[0], noun, around[1]) if part)
    return with_article(words) if article == "a" else f"{article} {words}".strip()


def capital(text: str) -> str:
    """A sentence's first letter; a word like "iPhone" stays."""
    return text[0].upper() + text[1:] if text.split()[0].islower() else text


def small(text: str) -> str:
    """A prompt inside another one: its article is small."""
    first, _, rest = text.partition(" ")
    return f"{first.lower()} {rest}" if rest and first.lower() in {*ARTICLES, *DETERMINERS} else text


def has_style(prompt: str) -> bool:
    """Whether a prompt begins with how it is drawn: "a photo of a cat"."""
    head, of, _ = small(prompt).lower().partition(" of ")
    return bool(of) and head.split()[-1] in STYLES


def read(source: str, destination: str) -> Change:
    """Take a pair apart.

    Raises:
        ManifestError: the prompts are empty, the same, or have no word in common.
    """
    source, destination = (normalize("NFC", text) for text in (source, destination))  # macOS writes é as two letters
    one, two = (text.rstrip(" .,;!").split() for text in (source, destination))
    if not one or not two:
        raise ManifestError("source or destination is empty; give two prompts.")
    if same(source, destination) or same(" ".join(one), " ".join(two)):
        raise ManifestError(f"source and destination are both {source!r}; name the attribute in the destination.")
    if not in_common(source, destination):
        what_to_do = _same_thing(source, destination)
        raise ManifestError(f"{source!r} and {destination!r} have no word in common; {what_to_do}.")
    whole = Change(" ".join(one), " ".join(two))
    if not is_english(source, destination):
        return whole
    frame = _frame(one, two)
    article, rest = _article(one[frame:])
    article_too, rest_too = _article(two[frame:])
    found = _noun(rest, rest_too)
    if found is None or rest == rest_too or (article and article_too and article != article_too):
        return whole
    if {rest[0].lower(), rest_too[0].lower()} & DETERMINERS or says(source) or _joins_values(rest):
        return whole
    article = article or article_too
    noun, becomes, old, new = found
    if article == "a" and singular_of(noun):
        return whole
    if not article_too:  # its first word has a capital letter as it begins a sentence
        new = new[0][:1].lower() + new[0][1:], new[1]
    paired = frame > 0 and one[frame - 2].lower() == "pair"
    plural, other = _number(article, noun, becomes, [*old, *new], paired)
    return Change(
        capital(whole.source), capital(whole.destination), article, noun, becomes, old, new, plural, other, frame > 0
    )


def says(prompt: str) -> bool:
    """Whether a prompt is a sentence, which cannot stand in another prompt: "roses are red"."""
    return bool({*prompt.lower().split()} & {"is", "are", "was", "were"})


def _joins_values(words: list[str]) -> bool:
    """Whether "and" stands between values of one thing: a red and white flag is no red."""
    return any(two.lower() == "and" and any(one.lower() in kind for kind in KINDS) for one, two in pairwise(words))


def _same_thing(source: str, destination: str) -> str:
    """A dog and two dogs are other words to a model: the source must have the number of the destination."""
    said = [plain(word) for word in destination.split()]
    for word in _WORD.findall(source):
        if word.lower() in {*ARTICLES, *DETERMINERS}:
            continue
        for number in (plural_of(word), singular_of(word)):
            if number and number.lower() in said:
                return f"write {number!r} in both"
    return "name the same thing in both"


def _frame(one: list[str], two: list[str]) -> int:
    """How many words stand in front of the thing that is edited: the "a pack of" of "a pack of roses"."""
    alike = 0
    while alike < min(len(one), len(two)) and plain(one[alike]) == plain(two[alike]):
        alike += 1
    ofs = [i for i in range(1, alike) if one[i].lower() == "of"]
    if not ofs or ofs[-1] + 1 in (len(one), len(two)):
        return 0
    whole = alike == len(one) and one[ofs[-1] - 1].lower() not in STYLES  # what is put behind it is not of its parts
    return 0 if whole else ofs[-1] + 1


def _article(words: list[str]) -> tuple[str, list[str]]:
    article = ARTICLES.get(words[0].lower(), "") if len(words) > 1 else ""
    return article, words[1:] if article else words


def _noun(one: list[str], two: list[str]) -> tuple[str, str, tuple[str, str], tuple[str, str]] | None:
    """The noun of both, and the words before and behind it in each; None where that is not clear."""
    size, size_too = _head(one), _head(two)
    if not size or not size_too or not all(_WORD.fullmatch(word) for word in one[:size]):
        return None
    if size > 1 and _acts(one[size - 1]):
        return None
    lower = [word.lower() for word in two]
    for count in range(size, 0, -1):
        tail = [word.lower() for word in one[size - count : size]]
        for at in range(len(two) - count + 1):
            if lower[at : at + count] == tail:
                end = at + count
                if (end < len(two) and not _ends(two[end:])) or {*lower[:at]} & PREPOSITIONS:
                    return None
                noun = _cased(" ".join(one[size - count : size]), " ".join(two[at:end]), count == size and at > 0)
                return noun, noun, _around(one, size - count, size), _around(two, at, end)
    if not all(_WORD.fullmatch(word) for word in two[:size_too]):
        return None
    return " ".join(one[:size]), " ".join(two[:size_too]), _around(one, 0, size), _around(two, 0, size_too)


def _cased(first: str, second: str, led: bool) -> str:
    """A noun that leads one prompt and not the other has its own letters in the other."""
    return second if led else first


def _around(words: list[str], start: int, stop: int) -> tuple[str, str]:
    return " ".join(words[:start]), " ".join(words[stop:])


def _head(words: list[str]) -> int:
    """Where the noun phrase at the beginning ends."""
    for i, word in enumerate(words):
        if word.lower() in PREPOSITIONS or i and _acts(word) and _ends(words[i + 1 :], "of"):
            return i
    return len(words)


def _ends(words: list[str], *others: str) -> bool:
    """Whether a noun phrase can end before these words."""
    first = words[0].lower() if words else ""
    return first in PREPOSITIONS or first in ARTICLES or first in others or _acts(first)


def _acts(word: str) -> bool:
    word = word.lower()
    return (word.endswith("ing") and word not in THINGS) or (
        word.endswith("ed") and not word.endswith("eed") and len(word) > 4
    )


def _number(
    article: str, noun: str, becomes: str, around: list[str], paired: bool
) -> tuple[bool, tuple[str, str] | None]:
    """Whether the noun is a plural, and both nouns in the other number."""
    words = {word.lower() for part in around for word in part.split()}
    if article == "a":
        nouns = plural_of(noun), plural_of(becomes)
        fits = not words & SINGULAR
    elif article == "" and noun.split()[-1][0].islower() and singular_of(noun):
        nouns = singular_of(noun), singular_of(becomes)
        fits = not paired and not words & PLURAL
    else:
        return False, None
    one, two = nouns
    return article == "", (one, two) if fits and one and two else None
