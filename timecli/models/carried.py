"""Whether the edits that a model's record tells of are those of its tensors: a merge copies records, too."""

from __future__ import annotations

import hashlib

from timecli.errors import CheckpointError
from timecli.models.checkpoint import Checkpoint

MADE = "made"
"""Key of a record: the `base_hash` of the model that the edit gave."""


def base_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 over the bytes of the maps that read text: which model an edit was made from, or gave."""
    from timecli.files.tensors import raw  # torch, which a model without edits needs for nothing here

    digest = hashlib.sha256()
    for _, tensor in checkpoint.projections(twins=False):
        digest.update(raw(tensor))
    return digest.hexdigest()


def holds(checkpoint: Checkpoint) -> bool | None:
    """Whether the tensors are those that were written with the last record; None where it does not say."""
    made = checkpoint.edits[-1].get(MADE) if checkpoint.edits else None
    return None if made is None else made == base_hash(checkpoint)


def named(checkpoint: Checkpoint) -> str:
    """The edits of a model's record by name."""
    return ", ".join(repr(str(entry["name"])) for entry in checkpoint.edits)


def doubt(checkpoint: Checkpoint) -> str:
    """What is to be said of a record that does not hold."""
    return (
        f"{checkpoint.path} says that it was edited with {named(checkpoint)}, and its tensors are not those that were "
        "written: another program has changed them, or copied the record of another file"
    )


def require_unedited(checkpoint: Checkpoint, way_out: str = "start from the original, or use --stack") -> None:
    """Refuse a model that carries a timecli edit: a second edit on top is not the joint solution of both."""
    if checkpoint.edits:
        raise CheckpointError(f"{checkpoint.path} already carries a timecli edit ({named(checkpoint)}); {way_out}.")
