"""What the captions of the world say: at random, in words, and read back."""

from __future__ import annotations

import random
from dataclasses import replace

from world import (
    ACTIONS,
    COLOURS,
    GENDERS,
    GROUPS,
    NOUNS,
    PATTERNS,
    PLACES,
    PROFESSIONS,
    SHAPES,
    STYLES,
    THINGS,
    Request,
    default,
)


def sample(rng: random.Random) -> tuple[str, Request]:
    """A random caption and what it asks for: an attribute is named about half of the time."""
    request = _sample_person(rng) if rng.random() < 0.22 else _sample_thing(rng)
    if rng.random() < 0.35:
        request = replace(request, place=rng.choice(list(PLACES)))
    if rng.random() < 0.6:
        request = replace(request, style=rng.choice(STYLES))
    return caption(request, rng), request


def vary(request: Request, rng: random.Random) -> Request:
    """The same request but for one attribute: named otherwise, or named where it was not, or no longer named."""
    if request.profession:
        choices = {"gender": GENDERS, "place": PLACES, "style": STYLES, "action": ACTIONS}
        if request.profession == "person":
            del choices["gender"]
    else:
        choices = {
            "colour": COLOURS,
            "pattern": PATTERNS[1:],
            "place": PLACES,
            "style": STYLES,
            "thing": _family(request),
        }
        if THINGS[request.thing].family == "round":
            choices["shape"] = SHAPES
    attribute = rng.choice(list(choices))
    values: list[str | None] = [value for value in choices[attribute] if value != default(request, attribute)]
    if attribute not in ("thing", "action"):
        values.append(None)
    return replace(request, **{attribute: rng.choice([v for v in values if v != getattr(request, attribute)])})


def _family(request: Request) -> list[str]:
    """Things that can take this thing's place in a caption."""
    thing = THINGS[request.thing]
    return [name for name, t in THINGS.items() if t.family == thing.family and bool(t.young) == bool(thing.young)]


def _sample_person(rng: random.Random) -> Request:
    gender = rng.choice(list(GENDERS)) if rng.random() < 0.5 else None
    profession = rng.choice(list(PROFESSIONS))
    if gender and rng.random() < 0.15:
        profession = "person"
    action = rng.choice(ACTIONS[1:]) if rng.random() < 0.3 else "standing"
    return Request(profession=profession, gender=gender, action=action)


def _sample_thing(rng: random.Random) -> Request:
    name = rng.choice(list(THINGS))
    thing = THINGS[name]
    groups = {"flower": ("many", "pack", "vase", "field"), "fruit": ("many", "pack", "bowl")}.get(
        thing.family, ("many",)
    )
    return Request(
        thing=name,
        colour=rng.choice(list(COLOURS)) if rng.random() < 0.5 else None,
        pattern=rng.choice(PATTERNS[1:]) if rng.random() < 0.2 else None,
        shape=rng.choice(SHAPES) if thing.family == "round" and rng.random() < 0.5 else None,
        group=rng.choice(groups) if rng.random() < (0.5 if len(groups) > 1 else 0.2) else "one",
        young=bool(thing.young) and rng.random() < 0.25,
    )


def caption(request: Request, rng: random.Random) -> str:
    """A caption for `request`; the random numbers choose among equivalent wordings."""
    words = _person_words(request) if request.profession else _thing_words(request, rng)
    if request.style:
        words = ["a" if request.style != "image" else "an", request.style, "of", *words]
    if request.place:
        words.append(PLACES[request.place])
    text = " ".join(words)
    return text[0].upper() + text[1:]


def _article(words: list[str]) -> list[str]:
    return ["an" if words[0][0] in "aeiou" else "a", *words]


def _person_words(request: Request) -> list[str]:
    if request.profession == "person":
        words = [GENDERS[request.gender or "female"]]
    else:
        words = [word for word in (request.gender, request.profession) if word]
    doing = [] if request.action == "standing" else [request.action]
    return [*_article(words), *doing]


def _thing_words(request: Request, rng: random.Random) -> list[str]:
    thing = THINGS[request.thing]
    attributes = [word for word in (request.pattern, request.colour, request.shape) if word]
    if request.group != "one" and not (request.group == "field" and rng.random() < 0.4):
        noun = f"{rng.choice(thing.young)}s" if request.young else thing.plural
        noun = {"puppys": "puppies", "calfs": "calves"}.get(noun, noun)
        plural = [*attributes, noun]
        return plural if request.group == "many" else ["a", request.group, "of", *plural]
    if request.young:
        noun = rng.choice(thing.young)
    else:
        noun = rng.choice(thing.synonyms) if thing.synonyms and rng.random() < 0.25 else request.thing
    return _article([*attributes, noun, *(["field"] if request.group == "field" else [])])


def parse(prompt: str) -> Request:
    """Read a caption of this world back. Raises ValueError for a prompt that names nothing drawable."""
    words = prompt.lower().replace(",", " ").split()
    plural_young = {"puppies": "puppy", "calves": "calf"} | {
        f"{word}s": word for thing in THINGS.values() for word in thing.young
    }
    found: dict[str, object] = {}
    for word in words:
        noun = plural_young.get(word, word)
        if noun in NOUNS:
            found["thing"], found["young"] = NOUNS[noun]
            if word in plural_young or word == THINGS[NOUNS[noun][0]].plural:
                found.setdefault("group", "many")
        for attribute, values in (
            ("colour", COLOURS),
            ("pattern", PATTERNS[1:]),
            ("shape", SHAPES),
            ("gender", GENDERS),
            ("place", PLACES),
            ("style", STYLES),
            ("action", ACTIONS[1:]),
            ("group", GROUPS[2:]),
        ):
            if word in values:
                found[attribute] = word
        for name in PROFESSIONS:
            if word == name.lower():
                found["profession"] = name
        if word in GENDERS.values():
            found["profession"] = "person"
            found["gender"] = "female" if word == "woman" else "male"
    if not ("thing" in found or "profession" in found):
        raise ValueError(f"{prompt!r} names nothing that can be drawn in this world")
    return Request(**found)  # type: ignore[arg-type]


def corpus() -> list[str]:
    """Every word of the world at least once, for the tokenizer."""
    words = [*NOUNS, *(thing.plural for thing in THINGS.values()), *COLOURS, *PATTERNS, *SHAPES, *PROFESSIONS, *STYLES]
    words += [*GENDERS, *GENDERS.values(), *ACTIONS, *GROUPS, *PLACES, *PLACES.values(), "a", "an", "of"]
    words += ["puppies", "calves", *(f"{word}s" for thing in THINGS.values() for word in thing.young)]
    return words
