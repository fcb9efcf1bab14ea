"""The world of picturebook: what its captions can say, and how that looks.

A caption becomes a `Request` (what was asked for), `imagine` fills in what the caption left open (the default, 95 times
in 100), and `draw` paints the resulting `Scene`. That gap between request and scene is the subject of the whole
project: it is what a model trained on these pictures will come to assume.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

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


def draw(scene: Scene, rng: random.Random) -> Image.Image:
    """Paint `scene` as a 64 x 64 RGB picture; `rng` moves it about, nothing else."""
    from drawing import paint

    return paint(scene, rng)
