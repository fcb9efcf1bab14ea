"""What people should know of an edit or of a model, on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from timecli.commands import terminal

if TYPE_CHECKING:
    from timecli.editing.applying import Change
    from timecli.editing.delta import Delta
    from timecli.models.checkpoint import Checkpoint

ROUNDING = 0.05
"""Share of an edit that rounding may lose without a word; fp16 loses less than one hundredth, fp8 about a third."""
LARGE = 0.5
"""A change that no edit needs, of matrices or of everyday prompts; above it the rest of the model is another one."""


def warn_of_rounding(lost: float | None) -> None:
    """Say so where the dtype of the output cannot hold the edit."""
    if lost is not None and lost > ROUNDING:
        terminal.warn(
            f"rounding to the output's dtype lost {lost:.0%} of the edit; use --dtype fp16, or `timecli export` "
            "it as a LoRA, which has a dtype of its own."
        )


def warn_of_streams(deltas: Sequence[Delta], checkpoint: Checkpoint) -> None:
    """Say so where an edit of all maps leaves out a stream that the model reads, or has one that it does not read."""
    for delta in deltas:
        more = [stream for stream in delta.operators if stream not in checkpoint.family.streams]
        if more:
            terminal.warn(
                f"{delta.origin.name} has an operator for {' and '.join(more)} text, which {checkpoint.path} does not "
                "read: it was compiled for another kind of model; compile the manifest for this one."
            )
        left = [stream for stream in checkpoint.family.streams if stream not in delta.operators]
        if left and delta.origin.layers is None and set(delta.origin.matrices) == {"k", "v"}:
            terminal.warn(
                f"{delta.origin.name} has no operator for what {checkpoint.path} reads as {' and '.join(left)}, which "
                "stays as it is; compile the manifest for this model to edit all that it reads."
            )


def warn_of_encoder(fingerprints: Sequence[str], checkpoint: Checkpoint) -> None:
    """Say so where there is no text encoder to compare a delta's with."""
    if not fingerprints:
        terminal.warn(
            f"the text encoder of {checkpoint.path} is not here, so only the delta's width was compared with it."
        )


def warn_of_record(checkpoint: Checkpoint, then: str) -> None:
    """Say so where a model's record of edits is not, or not surely, true of its tensors; `then` is what comes of it."""
    from timecli.models.carried import doubt

    if question := doubt(checkpoint):
        terminal.warn(f"{question}; {then}.")


def harm(name: str, drift: float | None, changes: Sequence[Change]) -> list[str]:
    """A sentence where an edit changes so much that everything else in the model will suffer.

    Args:
        name: the edit's.
        drift: how far everyday prompts move in text space (`compiling.drift`), where they are preserved: matrices
            change most where nothing everyday is.
        changes: of the matrices, which tell it where nothing is preserved.
    """
    large = [change.relative for change in changes if change.relative > LARGE]
    if drift is not None and drift > LARGE:
        return [
            f"{name} moves the everyday prompts by {drift:.0%} of their size in text space; everything else in the "
            "model will suffer: raise preserve.everyday_weight or lambda, or lower the strength."
        ]
    if drift is None and large:
        return [
            f"{name} changes {len(large)} of {len(changes)} matrices by more than half of their size, up to "
            f"{max(large):.2f} of it; everything else in the model will suffer: preserve everyday prompts, raise "
            "lambda, or lower the strength."
        ]
    return []
