"""Variants of the benchmark's edits, which the card compares.

    python variants.py

bench/groups has the edits of appendix F, one of every thing, in random groups: `17-03` is the third of 17. bench/own-1
and bench/own-0.3 have the test edits with their own negatives preserved, with that weight. bench/lists has the
validation edits with other lists of everyday prompts. None of them is in the repository.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import everyday
import world
from timecli.manifests import manifest
from timecli.manifests.manifest import Manifest
from timecli.measuring import schedule

HERE = Path(__file__).parent / "bench"
GROUPS = (17, 7, 4, 3, 2)
"""Into how many groups the edits of appendix F are divided."""
WEIGHTS = (1, 0.3)
"""Of negatives that are preserved."""
CAPTIONS = 300
"""Of a long list."""
COLOURS, PLACES = 3, 2
"""Of every thing, on a list with attributes."""
OFF = "everyday = false"
"""The line of the benchmark's manifests in whose place something is preserved."""


def read(folder: str) -> list[Manifest]:
    return [manifest.load(path) for path in sorted((HERE / folder).glob("*.toml"))]


def together() -> list[Manifest]:
    """The test edits that a joint edit of all keeps, of two with one source the first."""
    return schedule.joint(read("test"))[1]


def groups() -> dict[str, dict[str, str]]:
    """By folder the manifests of each group."""
    edits = together()
    random.Random(0).shuffle(edits)
    return {
        f"groups/{count:02}-{index + 1:02}": {task.name: task.text for task in edits[index::count]}
        for count in GROUPS
        for index in range(count)
    }


def own(weight: float) -> dict[str, str]:
    """The test edits with their negatives preserved."""
    found = {}
    for task in read("test"):
        prompts = [test.prompt for edit in task.edits for test in edit.negatives]
        found[task.name] = task.text.replace(OFF, f"prompts = {json.dumps(prompts)}\nweight = {weight:g}")
    return found


def lists() -> dict[str, list[str]]:
    """Other lists than the model's own, by name."""
    captions, rng = everyday.captions(), random.Random(0)
    described = []
    for name in world.THINGS:
        described += [everyday.noun(f"{colour} {name}") for colour in rng.sample(list(world.COLOURS), COLOURS)]
        described += [f"{everyday.noun(name)} {where}" for where in rng.sample(list(world.PLACES.values()), PLACES)]
    return {
        "bare": [*everyday.nouns(others=False), *captions],
        "captions": [*everyday.nouns(), *everyday.captions(CAPTIONS)],
        "attributes": [*everyday.nouns(), *described, *captions],
        "bare-attributes": [*everyday.nouns(others=False), *described, *captions],
    }


def write(folder: str, texts: Mapping[str, str]) -> None:
    """Manifests into a folder of their own."""
    target = HERE / folder
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, text in texts.items():
        (target / f"{name}.toml").write_text(text, encoding="utf-8")


def main() -> None:
    shutil.rmtree(HERE / "groups", ignore_errors=True)
    for folder, texts in groups().items():
        write(folder, texts)
    for weight in WEIGHTS:
        write(f"own-{weight:g}", own(weight))
    for name, prompts in lists().items():
        texts = {task.name: task.text.replace(OFF, 'everyday = "list.txt"') for task in read("validation")}
        write(f"lists/{name}", texts)
        (HERE / "lists" / name / "list.txt").write_text("\n".join(dict.fromkeys(prompts)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
