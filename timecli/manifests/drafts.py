"""A manifest's text from one pair of prompts: what a person would write down beside it, with comments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from timecli.errors import ManifestError
from timecli.manifests import values
from timecli.manifests.common import in_common, is_english
from timecli.manifests.manifest import folded
from timecli.manifests.wording import Change, capital, has_style, says, small

FRONT = ("a sketch of {}", "a cartoon of {}")
BEHIND = ("{} in the city", "{} in the forest", "{} in the desert")
SMALL = "small"
AT = {"in", "on", "at", "near", "by", "under", "over"}
"""Words before a place."""
OTHERS = 4
"""Other values that are tried."""
COMMON = 11
"""Values of a kind of which a model may assume one: the most common."""

Test = tuple[str, str]
"""A prompt and its destination."""


@dataclass(frozen=True)
class Draft:
    """The parts of a manifest.

    Attributes:
        change: the pair.
        second: the same in the other number.
        wider: the same without what stands before it ("a pack of"), which is offered and not edited.
        positives: other wordings, which should follow.
        explicit: prompts that name another value.
        negatives: neighbours, which should stay.
        preserved: prompts to preserve.
        left_out: sentences for what has no place in it, and why.
        balance: two descriptions of which each should be drawn as often as the other.
    """

    change: Change
    second: tuple[Test, ...]
    wider: tuple[Test, ...]
    positives: tuple[Test, ...]
    explicit: tuple[Test, ...]
    negatives: tuple[Test, ...] = ()
    preserved: tuple[str, ...] = ()
    left_out: tuple[str, ...] = field(default=())
    balance: tuple[str, str] | None = None


def draft(change: Change) -> Draft:
    """Everything that the pair itself gives."""
    said, otherwise = change.said(), change.said_otherwise()
    pair = change.source, change.destination
    others = _tests([*([said] if change.framed else []), *([otherwise] if otherwise else [])], pair)
    explicit = _explicit(change)
    return Draft(
        change,
        () if change.framed else others,
        others if change.framed else (),
        _tests(_positives(change), pair),
        explicit,
        preserved=tuple(prompt for prompt, _ in explicit),
        left_out=tuple(_left_out(change)),
    )


def balanced(draft: Draft) -> Draft:
    """The draft of an edit after which two genders are drawn equally often. It has one pair and no other wordings.

    Raises:
        ManifestError: the destination adds no gender.
    """
    change = draft.change
    words = [word for part in change.new for word in part.lower().split()]
    added = [(word, kind) for word in words for kind in (values.GENDERS, values.PEOPLE) if word in kind]
    if len(added) != 1:
        known = " or ".join(map(repr, values.GENDERS))
        raise ManifestError(
            f"{change.destination!r} adds no gender, which --balance is for; write {known} in it, or write [balance] "
            "yourself."
        )
    one = small(change.destination)
    ((gender, kind),) = added
    (other,) = (_swapped(one, gender, word) for word in kind if word != gender)
    return replace(draft, second=(), wider=(), positives=(), balance=(one, other))


def _tests(found: Sequence[Test], *known: Test) -> tuple[Test, ...]:
    """As prompts with a capital letter, each once, without those that are known or have nothing in common."""
    seen = {folded(prompt) for prompt, _ in known}
    made: dict[str, Test] = {}
    for prompt, destination in found:
        if folded(prompt) not in seen and folded(prompt) != folded(destination) and in_common(prompt, destination):
            made.setdefault(folded(prompt), (capital(prompt), capital(destination)))
    return tuple(made.values())


def _positives(change: Change) -> list[Test]:
    """Other wordings, in both numbers. What stands behind the noun leaves no room for more there."""
    if not is_english(change.source, change.destination) or says(change.source):
        return []
    whole, otherwise = _whole(change), change.said_otherwise()
    full, sized = change.behind or any(map(_is_somewhere, whole)), bool(change.article or change.plural)
    found = [] if has_style(change.source) else [_in(wording, whole) for wording in FRONT]
    if not full:
        found += [_in(wording, whole) for wording in BEHIND]
    elif sized and (change.behind or not change.framed):
        found.append(change.said(SMALL))
    if otherwise and not change.framed and in_common(*otherwise):
        found.append(_in(FRONT[0], otherwise))
        found.append(_in(BEHIND[0], otherwise) if not full else change.said_otherwise(SMALL) or otherwise)
    return found


def _is_somewhere(prompt: str) -> bool:
    """Whether a prompt says where it is: a house in the snow is not in the city, too."""
    words = re.findall(r"\w+", prompt.lower())
    return any(word in AT and values.PLACE_NOUNS & {*words[i + 1 : i + 4]} for i, word in enumerate(words))


def _whole(change: Change) -> Test:
    """All that the pair says, inside another prompt."""
    return (small(change.source), small(change.destination)) if change.framed else change.said()


def _in(wording: str, pair: Test) -> Test:
    return wording.replace("{}", pair[0]), wording.replace("{}", pair[1])


def _explicit(change: Change) -> tuple[Test, ...]:
    """Prompts that name another value of what was added, in both numbers if there are few."""
    return _tests([test for _, test in others(change)], change.said())[:OTHERS]


def others(change: Change) -> list[tuple[str, Test]]:
    """Every prompt that names another value, behind the prompt that names none."""
    both = [_whole(change), *filter(None, [None if change.framed else change.said_otherwise()])] if change.noun else []
    return [(bare, (prompt, goal)) for bare, goal in both for prompt in _others(change, goal)]


def named(change: Change) -> tuple[Test, ...]:
    """Prompts that each name another common value: one of them may say what is assumed."""
    pair = _whole(change)
    return _tests([(prompt, pair[1]) for prompt in _others(change, pair[1], COMMON)], pair) if change.noun else ()


def with_value(draft: Draft, test: Test) -> Draft:
    """The draft with this prompt as the first of those that name another value."""
    return with_values(draft, [test, *draft.explicit])


def with_values(draft: Draft, tests: Sequence[Test]) -> Draft:
    """The draft with these prompts that name another value, of which it takes the first."""
    explicit = _tests(tests, draft.change.said())[:OTHERS]
    return replace(draft, explicit=explicit, preserved=tuple(prompt for prompt, _ in explicit))


def _others(change: Change, destination: str, most: int | None = None) -> list[str]:
    """The destination with other values in the place of what was added, of the first `most` of their kind."""
    if change.behind and (place := _place(change.new[1].removeprefix(change.old[1]).strip())):
        return [destination.replace(place, other) for other in values.PLACES if other != place]
    before = {word.lower() for part in change.old for word in part.split()}
    added = [word for part in change.new for word in part.lower().split() if word not in before]
    known = [({*kind} & {*added}, kind) for kind in values.KINDS if {*kind} & {*added}]
    if not known or len(known[0][0]) != 1:
        return []
    (word,), kind = known[0]  # of a striped red shirt the colour: shirts of another colour stay
    return [_swapped(destination, word, other) for other in kind[:most] if other not in (word, *before)]


def _place(behind: str) -> str | None:
    """Where something is, if that is what the words say."""
    words = behind.lower().split()
    return (
        behind if 1 < len(words) <= 3 and words[0] in ("in", "on", "at") and words[-1] in values.PLACE_NOUNS else None
    )


def _swapped(text: str, word: str, other: str) -> str:
    """Another word in the place of one, and the article that goes with it."""

    def swap(match: re.Match[str]) -> str:
        article = match.group(1) or ""
        if article.lower() in ("a ", "an "):
            article = article[0] + ("n " if other[0] in "aeiou" else " ")
        return article + other

    return re.sub(rf"(?i)(\ban? )?\b{re.escape(word)}\b", swap, text, count=1)


def _left_out(change: Change) -> list[str]:
    found = []
    if not change.noun:
        found.append(f"what {change.source!r} is about was not understood; add its plural and other values yourself.")
    elif not change.framed and not ((both := change.said_otherwise()) and in_common(*both)):
        found.append(
            f"no second pair: {change.noun!r} is not drafted in the other number (one or several); add that pair if it "
            "should change, too."
        )
    adds = {*" ".join((*change.new, change.becomes)).split()} - {*" ".join((*change.old, change.noun)).split()}
    if change.noun and adds and not _explicit(change):
        found.append(
            "no explicit prompts: `init` looks for one colour, material, flavour, number, gender, age, pattern, shape "
            "or place, and finds none; add prompts that name another value."
        )
    return found
