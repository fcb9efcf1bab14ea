"""Whether the edits that a model's record tells of are those of its tensors: a merge copies records, too.

Every record has the hash of the maps before and after its edit (`base`, `made`), so that one after the other they lead
to the tensors that are there. Files are hashed as bytes, which needs no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from timecli.errors import CheckpointError
from timecli.models.checkpoint import Checkpoint

BASE, MADE = "base", "made"
"""Keys of a record: the `base_hash` of the model before the edit, and of the one that the edit gave."""


def base_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 over the bytes of the maps that read text: which model an edit was made from, or gave."""
    digest = hashlib.sha256()
    for place in checkpoint.places:
        if not place.twin:
            for piece in place.file.content(place.name):
                digest.update(piece)
    return digest.hexdigest()


def held(checkpoint: Checkpoint) -> list[bool | None]:
    """Of every record whether the tensors are those that its edit, and the later ones, gave; None where it is not told.

    What holds of a record holds of the earlier ones only as far as each gave what the next was made from.
    """
    records = checkpoint.edits
    if not records:
        return []
    made = records[-1].get(MADE)
    found: list[bool | None] = [None if made is None else made == base_hash(checkpoint)]
    for record, later in reversed(list(zip(records, records[1:], strict=False))):
        made, behind = record.get(MADE), found[0]
        leads = same_step(record, later) or made == later.get(BASE)
        found.insert(0, None if made is None else behind if leads else False)
    return found


def same_step(record: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records are of edits that were applied in one go."""
    return all(record.get(key) == other.get(key) for key in (BASE, MADE))


def holds(checkpoint: Checkpoint) -> bool | None:
    """Whether all of a model's record is true of its tensors; None where that is not told, or there is none."""
    found = held(checkpoint)
    return False if False in found else None if None in found or not found else True


def named(records: Iterable[Mapping[str, Any]]) -> str:
    """Edits by name."""
    return ", ".join(repr(str(entry["name"])) for entry in records)


def doubt(checkpoint: Checkpoint) -> str | None:
    """What is to be said of a record that does not hold, or of which it is not told; None of one that does."""
    found = held(checkpoint)
    wrong = [record for record, true in zip(checkpoint.edits, found, strict=True) if true is False]
    if wrong:
        return untrue(checkpoint.path, wrong)
    untold = [record for record, true in zip(checkpoint.edits, found, strict=True) if true is None]
    if untold:
        return (
            f"{checkpoint.path} says that it was edited with {named(untold)}, and the record has no hash, so nothing "
            "shows whether its tensors are those that were written"
        )
    return None


def untrue(path: Path, records: Iterable[Mapping[str, Any]]) -> str:
    """What is to be said of records that do not hold."""
    return (
        f"{path} says that it was edited with {named(records)}, and its tensors are not those that were "
        "written: another program has changed them, or copied the record of another file"
    )


def require_unedited(checkpoint: Checkpoint, way_out: str = "start from the original, or use --stack") -> None:
    """Refuse a model that carries a timecli edit: a second edit on top is not the joint solution of both."""
    if not checkpoint.edits:
        return
    if question := doubt(checkpoint):
        raise CheckpointError(f"{question}; {way_out}.")
    raise CheckpointError(f"{checkpoint.path} already carries a timecli edit ({named(checkpoint.edits)}); {way_out}.")
