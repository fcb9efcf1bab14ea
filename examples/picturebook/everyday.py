"""Write picturebook's own everyday prompts: its nouns, synonyms, young ones and professions, and captions.

python everyday.py > config/everyday.txt

The captions come from the generator that captioned the training pictures; no edit of the benchmark chose them.
"""

from __future__ import annotations

import random

import phrases
import world

CAPTIONS, SEED = 60, 5


def noun(word: str) -> str:
    """A noun with its article."""
    return f"{'An' if word[0] in 'aeiou' else 'A'} {word}"


def nouns() -> list[str]:
    """Things, their synonyms and young ones, and professions."""
    words = [*world.THINGS]
    words += [other for thing in world.THINGS.values() for other in (*thing.synonyms, *thing.young[:1])]
    return [noun(word) for word in (*words, *world.PROFESSIONS)]


def captions(count: int = CAPTIONS) -> list[str]:
    """Different random captions."""
    rng, found = random.Random(SEED), dict[str, None]()
    while len(found) < count:
        found[phrases.sample(random.Random(rng.random()))[0]] = None
    return list(found)


if __name__ == "__main__":
    print("# Things and people of picturebook, and captions.")
    print("\n".join([*nouns(), *captions()]))
