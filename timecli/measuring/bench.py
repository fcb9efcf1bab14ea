"""A bench that is run: results on disk line by line, and a run that was stopped goes on where it was.

`results.jsonl` is a header and one line for every group of the plan, in the plan's order. It only grows, by whole
batches, and how often it was interrupted cannot be seen from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from timecli.drawing import digest
from timecli.drawing.album import mine
from timecli.errors import OutputError
from timecli.files.foreign import read_json, require_file
from timecli.files.outfile import no_link, sync
from timecli.files.writing import write_bytes
from timecli.manifests.manifest import Manifest
from timecli.measuring.quality import LONG, SHORT, Reference, unpacked
from timecli.measuring.rivals import Change
from timecli.measuring.schedule import Batch, Texts
from timecli.measuring.studio import Studio
from timecli.models import carried
from timecli.models.checkpoint import Checkpoint
from timecli.text.readers import TextEncoder

RESULTS = "results.jsonl"
SEALED = re.compile(r'(.*), "seal": "([0-9a-f]{64})"\}', re.DOTALL)
"""A line as it is written: what its seal is for, and the seal."""
Answers = dict[tuple[str, str, Texts], tuple[int, ...]]
"""(model, prompt, texts) -> which of the two texts each picture shows."""


def header(
    checkpoint: Checkpoint,
    encoder: TextEncoder,
    manifests: Sequence[Manifest],
    studio: Studio,
    iterations: int,
    reference: Reference | None = None,
) -> str:
    """What results depend on beside the plan, as the first line of the file."""
    settings = studio.settings
    texts = {manifest.name: hashlib.sha256(manifest.text.encode()).hexdigest() for manifest in manifests}
    return json.dumps(
        {
            "model": checkpoint.path.name,
            "base": carried.base_hash(checkpoint),
            "encoder": encoder.fingerprint,
            "pipeline": digest.of_pipeline(studio.pipeline),
            "judge": digest.of_judge(studio.judge),
            "reference": reference.digest if reference else None,
            "seeds": list(settings.seeds),
            "steps": settings.steps,
            "guidance": settings.guidance,
            "iterations": iterations,
            "manifests": texts,
        },
        sort_keys=True,
    )


def resume(path: Path, head: str, plan: Sequence[Batch]) -> list[Batch]:
    """Cut a results file to its last whole batch, or begin one; the batches that are still to do.

    Raises:
        OutputError: the file belongs to another bench.
    """
    lines = _lines(path)
    if not lines:
        write_bytes(path, f"{head}\n".encode())
        return list(plan)
    if lines[0] != head:
        raise OutputError(f"{path} holds the results of another bench; choose another folder or remove it.")
    seeds = len(json.loads(head)["seeds"])
    done, position = 0, 1
    for batch in plan:
        if len(lines) - position < len(batch.groups):
            break
        for group, line in zip(batch.groups, lines[position:], strict=False):
            if not _fits(line, batch.model, group.prompt, group.questions, seeds):
                raise OutputError(
                    f"{path}, line {position + 1} is not of this bench, whose edits or settings have changed; choose "
                    "another folder or remove it."
                )
            position += 1
        done += 1
    if done == len(plan) and position < len(lines):
        raise OutputError(
            f"{path} holds more than this bench draws; choose another folder, or ask for all of it again."
        )
    write_bytes(path, "".join(f"{line}\n" for line in lines[:position]).encode())
    return list(plan[done:])


def require_ours(path: Path) -> None:
    """Refuse results that another user's run has left, or nobody's: anybody can write what looks like them.

    Raises:
        OutputError: with the first line that has no seal of ours for the file's header.
    """
    head, *lines = _lines(path) or [""]
    for number, line in enumerate(lines, 2):
        found = SEALED.fullmatch(line)
        if found is None or not mine().holds(head, found[1].encode(), bytes.fromhex(found[2])):
            raise OutputError(
                f"{path}, line {number} was drawn by somebody else, or with another key in the user's cache folder; "
                "choose another folder or remove it."
            )


def _lines(path: Path) -> list[str]:
    """The whole lines of a file that may be missing."""
    if not os.path.lexists(path):
        return []
    require_file(path, OutputError)
    return path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]


def _fits(line: str, model: str, prompt: str, questions: Sequence[Texts], seeds: int) -> bool:
    """Whether a line of the file is a whole group of the plan, with its answers or its quality."""
    try:
        found = read_json(line)
    except ValueError:
        return False
    wanted: dict[str, Any] = {"model": model, "prompt": prompt, "questions": [list(texts) for texts in questions]}
    if not isinstance(found, dict) or {key: found.get(key) for key in wanted} != wanted:
        return False
    if not questions:
        return isinstance(found.get("clip_score"), float) and _features(found.get("features"))
    answers = found.get("answers")
    if not isinstance(answers, list) or len(answers) != len(questions):
        return False
    if not _features(found.get("seen"), SHORT, seeds):
        return False
    return all(_counted(one, seeds) for one in answers)


def _features(text: Any, dtype: str = LONG, pictures: int = 1) -> bool:
    """Whether these are features of so many pictures."""
    try:
        row = unpacked(text, dtype)
    except (TypeError, ValueError):
        return False
    return len(row) > 0 and len(row) % pictures == 0 and bool(torch.isfinite(row).all())


def _counted(answers: Any, seeds: int) -> bool:
    """Whether these are answers to one question: 0 or 1 for every seed."""
    return isinstance(answers, list) and len(answers) == seeds and all(answer in (0, 1) for answer in answers)


def pictures(work: Sequence[Batch], seeds: int) -> int:
    """How many pictures some batches have."""
    return sum(seeds if group.questions else 1 for batch in work for group in batch.groups)


def run(path: Path, head: str, lines: Iterable[list[str]]) -> None:
    """Append the lines of each batch as it is finished, each with a seal for this header."""
    for batch in lines:
        with open(path, "ab", opener=no_link) as file:
            file.write("".join(f"{_sealed(line, head)}\n" for line in batch).encode())
            file.flush()
            sync(file.fileno())


def _sealed(line: str, head: str) -> str:
    """A line, which is a JSON object, with one more entry."""
    return f'{line[:-1]}, "seal": "{mine().seal(head, line[:-1].encode()).hex()}"}}'


def here(
    work: Sequence[Batch],
    edits: Callable[[str], Change | None],
    judged: Callable[[Change | None, Batch, Callable[[float], None]], list[str]],
    tick: Callable[[float], None],
) -> Iterator[list[str]]:
    """Draw batch after batch in this process."""
    for batch in work:
        yield judged(edits(batch.model), batch, tick)


def load(path: Path) -> Answers:
    """All answers of a results file."""
    found: Answers = {}
    for row in _rows(path):
        for texts, answers in zip(row["questions"], row.get("answers", ()), strict=True):
            found[row["model"], row["prompt"], (texts[0], texts[1])] = tuple(answers)
    return found


def load_seen(path: Path) -> dict[tuple[str, str], torch.Tensor]:
    """(model, prompt) -> what the judge sees in its pictures, `[seeds, d]` float32."""
    found = {}
    for row in _rows(path):
        if "seen" in row:
            seeds = len(row["answers"][0])
            found[row["model"], row["prompt"]] = unpacked(row["seen"], SHORT).reshape(seeds, -1)
    return found


def load_quality(path: Path) -> dict[str, list[tuple[float, str]]]:
    """CLIP Score and features of every caption's picture, by model."""
    found: dict[str, list[tuple[float, str]]] = {}
    for row in _rows(path):
        if "clip_score" in row:
            found.setdefault(row["model"], []).append((row["clip_score"], row["features"]))
    return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, path.read_bytes().decode().split("\n")[1:-1])
