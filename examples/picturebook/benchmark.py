"""picturebook's own TIMED (Orgad et al. 2023, §5.2): manifests for `timecli bench` and `timecli tune`.

    python benchmark.py    # bench/test, validation, professions and people; drawn pictures in bench/reference

Every thing of the world has its colour edited, and its place or its shape. The positive prompts put it in other
words, the negative ones name its neighbours, the explicit ones another value. The validation set is disjoint from the
test set. The reference pictures are what FID compares with: captions and pictures that the model has not seen. They
are not in the repository.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import phrases
import world
from world import COLOURS, PLACES, PROFESSIONS, SHAPES, THINGS, Thing

HERE = Path(__file__).parent / "bench"
NEGATIVES = 5
REFERENCE = 1000
VALIDATION = 8
"""Every so many edits, one is for validation."""
EXPLICIT = 4
"""Other values of what is edited, which a prompt names in so many words."""
Tests = list[tuple[str, str]]


class Edit(NamedTuple):
    """An edit with its tests: what should change, too, what should not, and other values, which win."""

    source: str
    destination: str
    positives: Tests
    negatives: Tests
    explicit: Tests


def article(words: str) -> str:
    return f"{'An' if words[0] in 'aeiou' else 'A'} {words}"


def neighbours(name: str) -> list[str]:
    """Things of the same family, then of the next ones."""
    families = list(dict.fromkeys(thing.family for thing in THINGS.values()))
    start = families.index(THINGS[name].family)
    order = [*families[start:], *families[:start]]
    others = [other for family in order for other, thing in THINGS.items() if thing.family == family and other != name]
    return others[:NEGATIVES]


def wordings(name: str, thing: Thing) -> list[str]:
    """Five ways to speak of a thing, `{}` where an attribute goes in front of the noun."""
    other = thing.young[0] if thing.young else thing.synonyms[0] if thing.synonyms else None
    group = {"flower": f"A vase of {{}}{thing.plural}", "fruit": f"A bowl of {{}}{thing.plural}"}.get(thing.family)
    return [
        f"A painting of a {{}}{name}",
        f"A sketch of a {{}}{name}",
        f"{{}}{thing.plural}",
        f"A cartoon of a {{}}{name}",
        group or (f"A {{}}{other}" if other else f"An image of a {{}}{name} in the forest"),
    ]


def spelled(wording: str, attribute: str) -> str:
    """The wording with an attribute or none, its article and its first letter as they should be."""
    words = wording.format(f"{attribute} " if attribute else "").split()
    for i, word in enumerate(words[:-1]):
        if word.lower() == "a" and words[i + 1][0] in "aeiou":
            words[i] = f"{word}n"
    text = " ".join(words)
    return text[0].upper() + text[1:]


def others(values: Sequence[str], goal: str, name: str) -> list[str]:
    """Some other values of what is edited, not the same ones for every thing."""
    rest = [value for value in values if value != goal]
    start = list(THINGS).index(name) % len(rest)
    return [*rest[start:], *rest[:start]][:EXPLICIT]


def in_front(name: str, attribute: str) -> Edit:
    """An edit of a colour or a shape."""
    ways = wordings(name, THINGS[name])
    positives = [(spelled(way, ""), spelled(way, attribute)) for way in ways]
    negatives = [(article(other), article(f"{attribute} {other}")) for other in neighbours(name)]
    goal = article(f"{attribute} {name}")
    values = others(list(COLOURS) if attribute in COLOURS else list(SHAPES), attribute, name)
    return Edit(article(name), goal, positives, negatives, [(article(f"{value} {name}"), goal) for value in values])


def behind(name: str, place: str) -> Edit:
    """An edit of a place."""
    where = PLACES[place]
    prompts = [spelled(way, "").removesuffix(" in the forest") for way in wordings(name, THINGS[name])]
    positives = [(prompt, f"{prompt} {where}") for prompt in prompts]
    negatives = [(article(other), f"{article(other)} {where}") for other in neighbours(name)]
    goal = f"{article(name)} {where}"
    explicit = [(f"{article(name)} {PLACES[value]}", goal) for value in others(NAMED, place, name)]
    return Edit(article(name), goal, positives, negatives, explicit)


def edits() -> list[tuple[str, Edit]]:
    """Name and edit; what is new is the default of neither the thing nor its neighbours."""
    rng, found = random.Random(0), []
    for name, thing in THINGS.items():
        near = [THINGS[other] for other in neighbours(name)]
        colour = rng.choice([c for c in COLOURS if c not in {thing.colour, *(other.colour for other in near)}])
        found.append((f"{colour}-{name}", in_front(name, colour)))
        if thing.family == "round":
            found.append((f"{SHAPES[1]}-{name}", in_front(name, SHAPES[1])))
        else:
            place = rng.choice([p for p in PLACES if p not in {thing.place, *(o.place for o in near)} and p in NAMED])
            found.append((f"{name}-{place}", behind(name, place)))
    return found


NAMED = ("beach", "snow", "forest", "city", "space", "desert")
"""Places that captions name."""


def text(name: str, edit: Edit) -> str:
    lines = [
        f"name = {json.dumps(name)}",
        'model = "picturebook"',
        "",
        "[preserve]",
        "everyday = false",
        "",
        "[[edit]]",
    ]
    lines += [f"source = {json.dumps(edit.source)}", f"destination = {json.dumps(edit.destination)}"]
    for key in ("positives", "negatives", "explicit"):
        tests = getattr(edit, key)
        rows = [f"    {{ prompt = {json.dumps(a)}, destination = {json.dumps(b)} }}," for a, b in tests]
        lines += [f"{key} = [", *rows, "]"]
    return "\n".join(lines) + "\n"


WORDINGS = (
    *("A photo of {}", "An image of {}", "A picture of {}"),
    *("{} in the snow", "{} in the city", "{} in the forest", "{} laughing"),
)
"""Of a profession that is balanced with the everyday world preserved; none of them is among the prompts of `bench`."""
VALIDATION_WORDINGS = (*WORDINGS[:5], WORDINGS[6])


def profession(name: str) -> str:
    """Towards the gender that is drawn less often, without augmentations (appendix H.2)."""
    settings = ["[solve]", "augment = false", "", "[preserve]", "everyday = false", ""]
    return balanced(name, settings, f"A photo of {lowered(in_text(name))}")


def person(name: str) -> str:
    """A profession as it is balanced with the everyday world preserved: in several wordings, by strength."""
    settings = ["[solve]", f"augment = {json.dumps(list(WORDINGS))}", "strength = 0.5", ""]
    source = in_text(name)
    prompts = [w.format(source if w.startswith("{}") else lowered(source)) for w in VALIDATION_WORDINGS]
    return balanced(name, settings, prompts)


def in_text(name: str) -> str:
    """A profession with its article."""
    return article(name) if name != "CEO" else "A CEO"


def lowered(words: str) -> str:
    """The words as they stand within a prompt."""
    return words[0].lower() + words[1:]


def balanced(name: str, settings: Sequence[str], validation: str | list[str]) -> str:
    """A manifest that balances a profession, under some settings."""
    goal = "male" if PROFESSIONS[name] > 0.5 else "female"
    source = in_text(name)
    prompts = [f"A {style} of {lowered(source)}" for style in ("painting", "sketch", "cartoon")]
    prompts += [f"{source} working", f"{source} on the beach"]
    lines = [f'name = "{goal}-{name.lower()}"', 'model = "picturebook"', "", *settings]
    lines += ["[[edit]]", f"source = {json.dumps(source)}", f"destination = {json.dumps(f'A {goal} {name}')}", ""]
    lines += ["[balance]", f'descriptions = ["a female {name}", "a male {name}"]']
    lines += [f"validation = {json.dumps(validation)}", "prompts = ["]
    return "\n".join([*lines, *(f"    {json.dumps(prompt)}," for prompt in prompts), "]"]) + "\n"


def main() -> None:
    for folder in ("test", "validation", "professions", "people"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir(parents=True)
    for number, (name, edit) in enumerate(edits()):
        folder = "validation" if number % VALIDATION == VALIDATION - 1 else "test"
        (HERE / folder / f"{name}.toml").write_text(text(name, edit), encoding="utf-8")
        for prompt in (edit.source, edit.destination, *(text for tests in edit[2:] for pair in tests for text in pair)):
            phrases.parse(prompt)  # raises ValueError for what is not of this world
    for name in PROFESSIONS:
        content = profession(name)
        (HERE / "professions" / f"{content.split(chr(34))[1]}.toml").write_text(content, encoding="utf-8")
        (HERE / "people" / f"{content.split(chr(34))[1]}.toml").write_text(person(name), encoding="utf-8")
    draw_reference(HERE / "reference", REFERENCE)


def draw_reference(folder: Path, count: int) -> None:
    """Pictures with different captions, and their index."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found: dict[str, str] = {}
    number = 40_000_000
    while len(found) < count:
        rng = random.Random(number)
        caption, request = phrases.sample(rng)
        if caption not in found:
            found[caption] = f"{len(found):05}.png"
            world.draw(world.imagine(request, rng), rng).save(folder / found[caption])
        number += 1
    lines = (json.dumps({"file_name": name, "text": caption}) for caption, name in found.items())
    (folder / "metadata.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
