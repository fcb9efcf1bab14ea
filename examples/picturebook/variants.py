"""Variants of the benchmark's manifests, which the card compares; none of them is in the repository.

    python variants.py    # after benchmark.py and as_init.py

| folder of bench | from | what is other |
| --- | --- | --- |
| joint/init-08, joint/pair-08 | init, test | so many of the edits of appendix F, evenly |
| professions-augmented, people-augmented | professions, people | the paper's wordings |
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from timecli.manifests import manifest
from timecli.manifests.manifest import Manifest
from timecli.measuring import schedule

HERE = Path(__file__).parent / "bench"
JOINT = (8, 17, 24)
"""How many edits make one model."""


def read(folder: str) -> list[Manifest]:
    return [manifest.load(path) for path in sorted((HERE / folder).glob("*.toml"))]


def together() -> list[Manifest]:
    """The test edits that a joint edit of all keeps, of two with one source the first."""
    return schedule.joint(read("test"))[1]


def some(count: int, folder: str) -> list[Manifest]:
    """So many of the edits of appendix F, evenly, as a folder has them."""
    edits = together()
    chosen = {edits[i * len(edits) // count].name for i in range(count)}
    return [task for task in read(folder) if task.name in chosen]


def line(key: str, value: str) -> Callable[[Manifest], str]:
    """Puts another line in the place of a key's; none removes it."""
    return lambda task: re.sub(rf"^{key} = .*\n", f"{key} = {value}\n" if value else "", task.text, flags=re.MULTILINE)


def write(folder: str, tasks: Iterable[Manifest], changed: Callable[[Manifest], str] = lambda task: task.text) -> None:
    """Manifests into a folder of their own."""
    target = HERE / folder
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for task in tasks:
        (target / f"{task.name}.toml").write_text(changed(task), encoding="utf-8")


def main() -> None:
    for count in JOINT:
        write(f"joint/init-{count:02}", some(count, "init"))
        write(f"joint/pair-{count:02}", some(count, "test"))
    for folder in ("professions", "people"):
        write(f"{folder}-augmented", read(folder), line("augment", "true"))


if __name__ == "__main__":
    main()
