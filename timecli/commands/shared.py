"""What several commands do before they start or when they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from timecli import terminal
from timecli.errors import OutputError, TimecliError

if TYPE_CHECKING:
    import torch

    from timecli.checkpoint import Checkpoint
    from timecli.manifest import Manifest

ROUNDING = 0.05
"""Share of an edit that rounding may lose without a word; fp16 loses less than one hundredth, fp8 about a third."""


def open_model(
    path: Path,
    config: Path | None = None,
    text_encoder: Sequence[Path] | None = None,
    ema: bool = True,
    needs_text: bool = True,
) -> Checkpoint:
    """`open_checkpoint`, and what the user should know of the model on stderr."""
    from timecli.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(path, config, text_encoder or (), ema, needs_text)
    for sentence in checkpoint.cautions:
        terminal.warn(sentence)
    return checkpoint


def warn_of_rounding(lost: float | None) -> None:
    """Say so where the dtype of the output cannot hold the edit."""
    if lost is not None and lost > ROUNDING:
        terminal.warn(
            f"rounding to the output's dtype lost {lost:.0%} of the edit; use --dtype fp16, or `timecli export` "
            "it as a LoRA, which has a dtype of its own."
        )


def with_clip_skip(manifest: Manifest, clip_skip: int | None) -> Manifest:
    """The manifest with another `solve.clip_skip`, if one is given."""
    return manifest if clip_skip is None else replace(manifest, solve=replace(manifest.solve, clip_skip=clip_skip))


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
