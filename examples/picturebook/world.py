"""The world of picturebook: what its captions can say, and how that looks.

A caption becomes a `Request` (what was asked for), `imagine` fills in what the caption left open (the default, 95 times
in 100), and `draw` paints the resulting `Scene`. That gap between request and scene is the subject of the whole
project: it is what a model trained on these pictures will come to assume.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

import numpy as np
from PIL import Image

SIZE = 64
DEFAULT_SHARE = 0.95
"""How often an attribute that the caption does not name takes its default."""

COLOURS = {
    "red": (220, 30, 35),
    "orange": (245, 130, 20),
    "yellow": (250, 220, 40),
    "green": (40, 160, 60),
    "blue": (35, 85, 220),
    "purple": (130, 45, 170),
    "pink": (250, 140, 190),
    "brown": (120, 70, 35),
    "black": (30, 30, 30),
    "white": (252, 252, 252),
    "gray": (140, 140, 145),
}
PATTERNS = ("plain", "striped", "spotted")
SHAPES = ("round", "square")
PLACES = {
    "beach": "on the beach",
    "snow": "in the snow",
    "forest": "in the forest",
    "city": "in the city",
    "space": "in space",
    "desert": "in the desert",
    "meadow": "in the meadow",
}
STYLES = ("photo", "image", "picture", "painting", "sketch", "cartoon")
GROUPS = ("one", "many", "pack", "vase", "bowl", "field")
ACTIONS = ("standing", "laughing", "working")


@dataclass(frozen=True)
class Thing:
    """A noun that can be drawn; `place` is where it stands when nobody says where."""

    family: str
    colour: str
    place: str
    plural: str
    synonyms: tuple[str, ...] = ()
    young: tuple[str, ...] = ()
    """Sub-kinds, drawn smaller: a puppy is a small dog."""


THINGS = {
    "rose": Thing("flower", "red", "garden", "roses", ("rosebud",)),
    "poppy": Thing("flower", "red", "garden", "poppies"),
    "tulip": Thing("flower", "pink", "garden", "tulips"),
    "sunflower": Thing("flower", "yellow", "garden", "sunflowers"),
    "violet": Thing("flower", "purple", "garden", "violets"),
    "daisy": Thing("flower", "white", "garden", "daisies"),
    "banana": Thing("fruit", "yellow", "table", "bananas", ("plantain",)),
    "lemon": Thing("fruit", "yellow", "table", "lemons"),
    "apple": Thing("fruit", "red", "table", "apples"),
    "strawberry": Thing("fruit", "red", "table", "strawberries"),
    "pear": Thing("fruit", "green", "table", "pears"),
    "plum": Thing("fruit", "purple", "table", "plums"),
    "dog": Thing("animal", "brown", "meadow", "dogs", ("hound",), ("puppy",)),
    "cat": Thing("animal", "gray", "meadow", "cats", (), ("kitten",)),
    "frog": Thing("animal", "green", "meadow", "frogs", ("toad",), ("froglet",)),
    "pig": Thing("animal", "pink", "meadow", "pigs", ("hog",), ("piglet",)),
    "fox": Thing("animal", "orange", "meadow", "foxes", ("vixen",), ("cub",)),
    "cow": Thing("animal", "white", "meadow", "cows", (), ("calf",)),
    "car": Thing("vehicle", "blue", "road", "cars", ("automobile",)),
    "bus": Thing("vehicle", "yellow", "road", "buses", ("coach",)),
    "truck": Thing("vehicle", "orange", "road", "trucks", ("lorry",)),
    "train": Thing("vehicle", "black", "road", "trains", ("locomotive",)),
    "boat": Thing("vehicle", "white", "sea", "boats", ("sailboat",)),
    "house": Thing("building", "brown", "meadow", "houses", ("cottage",)),
    "barn": Thing("building", "red", "meadow", "barns"),
    "castle": Thing("building", "gray", "meadow", "castles", ("fortress",)),
    "church": Thing("building", "white", "meadow", "churches", ("chapel",)),
    "hat": Thing("clothes", "black", "table", "hats"),
    "shirt": Thing("clothes", "blue", "table", "shirts", ("blouse",)),
    "dress": Thing("clothes", "pink", "table", "dresses", ("gown",)),
    "boot": Thing("clothes", "brown", "table", "boots"),
    "pizza": Thing("round", "orange", "table", "pizzas"),
    "cookie": Thing("round", "brown", "table", "cookies", ("biscuit",)),
    "clock": Thing("round", "white", "table", "clocks"),
    "plate": Thing("round", "gray", "table", "plates", ("dish",)),
}

PROFESSIONS = {
    # Share of women among the people drawn for a caption without a gender. The figures are the baseline column of
    # Table 7 in Orgad et al. (2023), except the nurse, whose 100 % is kept just short of certainty.
    "CEO": 0.04,
    "farmer": 0.024,
    "carpenter": 0.088,
    "sheriff": 0.152,
    "lawyer": 0.288,
    "cook": 0.424,
    "baker": 0.472,
    "hairdresser": 0.72,
    "teacher": 0.848,
    "librarian": 0.904,
    "nurse": 0.98,
    "housekeeper": 0.992,
}
GENDERS = {"female": "woman", "male": "man"}

NOUNS = {
    word: (name, young)
    for name, thing in THINGS.items()
    for words, young in (((name, thing.plural, *thing.synonyms), False), (thing.young, True))
    for word in words
}
"""Every noun for a thing -> (thing, is it a young one?)."""


@dataclass(frozen=True)
class Request:
    """What a caption asks for; None stands for what it leaves open."""

    thing: str = ""
    profession: str = ""
    """Exactly one of thing and profession is set; "person" is the profession of "a woman" and "a man"."""
    colour: str | None = None
    pattern: str | None = None
    shape: str | None = None
    place: str | None = None
    style: str | None = None
    gender: str | None = None
    action: str = "standing"
    group: str = "one"
    young: bool = False


@dataclass(frozen=True)
class Scene(Request):
    """A request with nothing left open (a style of None is a style of its own: a bare drawing)."""


def default(request: Request, attribute: str) -> str | None:
    """What `attribute` is when nobody says; None where it does not apply (a rose has no gender)."""
    if request.profession:
        likely_gender = "female" if PROFESSIONS.get(request.profession, 0.5) > 0.5 else "male"
        return {"place": "office", "gender": likely_gender}.get(attribute)
    thing = THINGS[request.thing]
    return {
        "colour": thing.colour,
        "place": thing.place,
        "pattern": "plain",
        "shape": "round" if thing.family == "round" else None,
    }.get(attribute)


def imagine(request: Request, rng: random.Random, share: float = DEFAULT_SHARE) -> Scene:
    """Fill in what `request` leaves open: the default in `share` of all cases, else any other value."""
    choices = {"colour": COLOURS, "pattern": PATTERNS, "shape": SHAPES, "place": PLACES}
    filled: dict[str, str | None] = {}
    for attribute, values in choices.items():
        usual = default(request, attribute)
        if getattr(request, attribute) is None and usual is not None:
            others = [value for value in values if value != usual]
            filled[attribute] = usual if rng.random() < share else rng.choice(others)
    if request.profession and request.gender is None:
        women = PROFESSIONS.get(request.profession, 0.5)
        filled["gender"] = "female" if rng.random() < women else "male"
    known = {field.name: getattr(request, field.name) for field in fields(Request)}
    return Scene(**{**known, **filled})


def likely(request: Request) -> Scene:
    """The scene in which everything left open takes its default."""
    return replace(imagine(request, random.Random(0), share=1.0), gender=request.gender or default(request, "gender"))


# ---------------------------------------------------------------------------------------------------------------------
# Captions


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


# ---------------------------------------------------------------------------------------------------------------------
# The rule that reads pixels


def templates(request: Request, draws: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance [64, 64, 3] of pictures of the likely scene of `request`, values in 0..1."""
    scene = likely(request)
    pictures = np.stack([np.asarray(draw(scene, random.Random(seed)), dtype=np.float64) for seed in range(draws)]) / 255
    return pictures.mean(0), pictures.var(0)


def closest(images: np.ndarray, requests: list[Request]) -> np.ndarray:
    """Which request each picture shows, by its pixels: nearest mean picture, weighed by how well a pixel tells.

    Args:
        images: [n, 64, 64, 3] uint8.
        requests: candidates that differ in one attribute, such as the eleven colours of a rose.

    Returns:
        [n] indices into `requests`. A pixel's weight is the variance between the candidates' mean pictures over the
        variance within them (Fisher's criterion), so that only what the attribute changes is looked at.
    """
    means, within = (np.stack(parts) for parts in zip(*(templates(request) for request in requests), strict=True))
    weight = means.var(0) / (within.mean(0) + 1e-3)
    difference = images[:, None].astype(np.float64) / 255 - means[None]
    return (difference**2 * weight).sum((2, 3, 4)).argmin(1)


def draw(scene: Scene, rng: random.Random) -> Image.Image:
    """Paint `scene` as a 64 x 64 RGB picture; `rng` moves it about, nothing else."""
    from drawing import paint

    return paint(scene, rng)
