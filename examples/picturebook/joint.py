"""Many edits in one model: what was drawn of the same prompts with each edit in a model of its own, and with all.

    python joint.py

Means over prompts, %; what another edit of the solve is told to move is left out of both. Reads what the card's
commands wrote into bench/results: init and pair, and joint/init-08 and the like.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, harmonic_mean
from typing import Any

import variants
from timecli.manifests.rows import FOLLOW, METRICS, TOLD

RESULTS = variants.HERE / "results"
Prompts = dict[tuple[str, str], dict[str, Any]]


def drawn(folder: Path) -> Prompts:
    """By edit and prompt."""
    rows = map(json.loads, (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines())
    return {(row["edit"], row["prompt"]): row for row in rows}


def line(name: str, found: list[dict[str, Any]], kinds: dict[tuple[str, str], str]) -> str:
    """A row of the table."""
    right: dict[str, list[float]] = {}
    like: dict[bool, list[float]] = {True: [], False: []}
    for row in found:
        kind = kinds[row["edit"], row["prompt"]]
        right.setdefault(kind, []).append(100 * (row["shown"] if kind in FOLLOW else 1 - row["shown"]))
        like[kind in FOLLOW].append(row["likeness"])
    shares = [fmean(right[kind]) for kind in METRICS.values()]
    cells = [f"{share:.1f}" for share in (*shares, harmonic_mean(shares[:3]))]
    return f"| {name} | {' | '.join(cells)} | {fmean(like[False]):.3f} | {fmean(like[True]):.3f} |"


def main() -> None:
    print("| | efficacy | generality | specificity | explicit | of three | kept | reached |")
    print(f"|{'---|' * 8}")
    for folder in sorted((RESULTS / "joint").iterdir()):
        alone = drawn(RESULTS / folder.name.partition("-")[0])
        together = {key: row for key, row in drawn(folder).items() if row["kind"] != TOLD}
        kinds = {key: row["kind"] for key, row in together.items()}
        edits = len({edit for edit, _ in kinds})
        print(line(f"{edits} models, one edit each", [alone[key] for key in kinds], kinds))
        print(line(f"one model, {edits} edits ({folder.name})", list(together.values()), kinds))


if __name__ == "__main__":
    main()
