"""Variants of the benchmark's manifests, which the card compares; none of them is in the repository.

    python variants.py    # after benchmark.py and as_init.py, and once more after `timecli tune`

| folder of bench | from | what is other |
| --- | --- | --- |
| groups/17-03 | test | the edits of appendix F, one of every thing, in random groups; this is the third of 17 |
| joint/init-08, -17, -24 | init | so many of the edits of appendix F, evenly |
| joint/pairs-08, -17, -24 | test | the same, the pairs alone |
| captions | validation | another list of everyday prompts, with more captions |
| professions-augmented, people-augmented | professions, people | the paper's wordings |
| people-default | people | the default's wordings |
| people-first | tuned/people-augmented | balanced prompts: the first of validation alone |
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import everyday
from timecli.manifests import manifest
from timecli.manifests.manifest import Manifest
from timecli.measuring import schedule

HERE = Path(__file__).parent / "bench"
GROUPS = (17, 9, 7, 4)
"""Into how many groups the edits of appendix F are divided."""
CAPTIONS = 300
"""Of a long list."""
JOINT = (8, 17, 24)
"""How many edits make one model."""


def read(folder: str) -> list[Manifest]:
    return [manifest.load(path) for path in sorted((HERE / folder).glob("*.toml"))]


def together() -> list[Manifest]:
    """The test edits that a joint edit of all keeps, of two with one source the first."""
    return schedule.joint(read("test"))[1]


def groups() -> dict[str, list[Manifest]]:
    """By folder the edits of each group."""
    edits = together()
    random.Random(0).shuffle(edits)
    return {f"{count:02}-{index + 1:02}": edits[index::count] for count in GROUPS for index in range(count)}


def some(count: int, folder: str) -> list[Manifest]:
    """So many of the edits of appendix F, evenly, as a folder has them."""
    edits = together()
    chosen = {edits[i * len(edits) // count].name for i in range(count)}
    return [task for task in read(folder) if task.name in chosen]


def line(key: str, value: str) -> Callable[[Manifest], str]:
    """Puts another line in the place of a key's; none removes it."""
    return lambda task: re.sub(rf"^{key} = .*\n", f"{key} = {value}\n" if value else "", task.text, flags=re.MULTILINE)


def first(task: Manifest) -> str:
    """Of a balance the first prompt of validation alone."""
    text = re.sub(r"^prompts = \[\n(?: .*\n)*\]\n", "", task.text, flags=re.MULTILINE)
    return re.sub(r'^validation = \[("[^"]*").*$', r"validation = \1", text, flags=re.MULTILINE)


def write(folder: str, tasks: Iterable[Manifest], changed: Callable[[Manifest], str] = lambda task: task.text) -> None:
    """Manifests into a folder of their own."""
    target = HERE / folder
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for task in tasks:
        (target / f"{task.name}.toml").write_text(changed(task), encoding="utf-8")


def main() -> None:
    for folder, tasks in groups().items():
        write(f"groups/{folder}", tasks)
    for count in JOINT:
        for kind, source in (("init", "init"), ("pairs", "test")):
            write(f"joint/{kind}-{count:02}", some(count, source))
    write("captions", read("validation"), line("everyday", '"list.txt"'))
    prompts = dict.fromkeys([*everyday.nouns(), *everyday.captions(CAPTIONS)])
    (HERE / "captions" / "list.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")
    for folder in ("professions", "people"):
        write(f"{folder}-augmented", read(folder), line("augment", "true"))
    write("people-default", read("people"), line("augment", ""))
    write("people-first", read("tuned/people-augmented"), first)


if __name__ == "__main__":
    main()
