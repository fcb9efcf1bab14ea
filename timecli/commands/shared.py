"""What several commands do before they start or when they end."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from timecli import terminal
from timecli.errors import OutputError, TimecliError

if TYPE_CHECKING:
    import torch

    from timecli.checkpoint import Checkpoint


def refuse(sentences: Sequence[str]) -> None:
    """Print every sentence and stop, if there is any."""
    for sentence in sentences:
        terminal.complain(sentence)
    if sentences:
        raise typer.Exit(2)


def model_last(paths: Sequence[Path], what: str) -> tuple[list[Path], Path]:
    """Some files of a kind, called `what`, and the model behind them."""
    *files, model = paths
    if not files:
        raise TimecliError(f"{model} is the only file; give one {what} or more, and the model last.")
    return files, model


def check_output(
    checkpoint: Checkpoint,
    recipes: Sequence[Path],
    output: Path,
    force: bool,
    in_place: bool,
    dtype: torch.dtype | None,
) -> None:
    """Refuse a model that cannot be written before any work is done."""
    from timecli.publish import size_on_disk
    from timecli.writing import check_target

    sources = [*recipes, *([] if in_place else [checkpoint.path])]
    check_target(output, sources, force or in_place, size_on_disk(checkpoint, dtype), checkpoint.is_folder)


def choose_output(model: Path, output: Path | None, in_place: bool) -> Path | None:
    """Where the edited model goes: `output`, or the model itself."""
    if in_place and output is not None:
        raise OutputError(f"--in-place writes to {model} and --output to {output}; choose one.")
    return model if in_place else output


def judge_folder(given: Path | None, model: Path) -> Path:
    """The judge that was asked for, or the one beside the model."""
    return given or (model if model.is_dir() else model.parent) / "judge"


def require_extra(module: str, extra: str) -> None:
    """Refuse to go on without an optional package."""
    if find_spec(module) is None:
        raise TimecliError(f'{module} is not installed; run pip install "timecli[{extra}]".')
