"""How many edits one joint solve holds: what was drawn for the groups of `variants.py`, %.

    python groups.py

Every row has the same edits, alone, in groups of several sizes, and all at once; each share is over all their prompts.
Reads what the card's commands wrote into bench/results: table-2-24, groups and appendix-f-everyday.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, harmonic_mean

import variants

RESULTS = variants.HERE / "results"
FOLLOW = ("source", "positive")


def shares(folders: Iterable[Path], configuration: str, edits: set[str]) -> dict[str, float]:
    """By kind of prompt, the mean share of pictures that show what is wanted."""
    found: dict[str, list[float]] = {}
    for folder in folders:
        for row in map(json.loads, (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()):
            if row["configuration"] == configuration and row["edit"] in edits:
                right = row["shown"] if row["kind"] in FOLLOW else 1 - row["shown"]
                found.setdefault(row["kind"], []).append(100 * right)
    return {kind: fmean(rights) for kind, rights in found.items()}


def main() -> None:
    edits = {task.name for task in variants.together()}
    drawn = {len(edits): ([RESULTS / "table-2-24"], "everyday")}
    drawn |= {n: (sorted((RESULTS / "groups").glob(f"{n:02}-*")), "everyday bulk") for n in variants.GROUPS}
    drawn |= {1: ([RESULTS / "appendix-f-everyday"], "everyday bulk weight=0.1 strength=1")}
    print("| groups | edits in each | efficacy | generality | specificity | explicit | of three |")
    print(f"|{'---|' * 7}")
    for count, (folders, configuration) in drawn.items():
        kinds = shares(folders, configuration, edits)
        values = [kinds[kind] for kind in ("source", "positive", "negative", "explicit")]
        cells = [f"{value:.1f}" for value in (*values, harmonic_mean(values[:3]))]
        print(f"| {count} | {len(edits) / count:.1f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
