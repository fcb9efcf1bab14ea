"""`--comfyui`: MODEL by the name that ComfyUI lists it under, and its text read as ComfyUI reads it."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from timecli.commands import terminal
from timecli.commands.shared import settle
from timecli.errors import CheckpointError

if TYPE_CHECKING:
    from timecli.commands.groups import Reading
    from timecli.models.checkpoint import Checkpoint


def beside(model: Path, reading: Reading, draws: bool = False) -> tuple[Path, Reading]:
    """MODEL's path, and the options with the text encoders and configs that `--comfyui` finds; says which these are.

    Args:
        model: as it was given.
        reading: the options.
        draws: whether the command draws pictures.

    Raises:
        CheckpointError: something is not there, or diffusers cannot draw it as ComfyUI reads it.
    """
    if reading.comfyui is None:
        return model, reading
    from timecli.models import comfyui, listed
    from timecli.models.checkpoint import open_checkpoint

    model = listed.located(reading.comfyui, model)
    settle(model)
    checkpoint = open_checkpoint(model, reading.config, needs="nothing")
    config = checkpoint.config  # that of the option, or beside the file
    if draws:
        _require_drawn(checkpoint)
    if checkpoint.is_folder:
        return model, reading
    taken = comfyui.text_encoders(reading.comfyui, checkpoint, reading.text_encoder or ())
    terminal.say_all(one.sentence for one in taken)
    texts = [*(reading.text_encoder or ()), *(one.path for one in taken)]
    if config is None and checkpoint.family.by_pipeline:
        config = _configs(reading.comfyui, checkpoint, texts)
    return model, replace(reading, config=config, text_encoder=texts or None)


def named(model: Path, home: Path | None) -> Path:
    """MODEL's path."""
    from timecli.models import listed

    return model if home is None else listed.located(home, model)


def _configs(home: Path, checkpoint: Checkpoint, texts: Sequence[Path]) -> Path:
    """A folder of configs and tokenizers that lasts as long as the command."""
    from timecli.models import comfyui

    folder = mkdtemp(prefix="timecli-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    comfyui.write_configs(home, checkpoint, texts, Path(folder))
    return Path(folder)


def _require_drawn(checkpoint: Checkpoint) -> None:
    """Refuse before anything is encoded what diffusers, which draws, needs more for, or draws of another text."""
    from timecli.models.comfyui import UNPADDED

    family = checkpoint.family
    if family.name in UNPADDED:
        raise CheckpointError(
            f"{checkpoint.path} is {family.name}, to which ComfyUI gives a prompt without the padding that diffusers "
            "draws it with; leave out --comfyui, or draw with the node in ComfyUI."
        )
    if family.by_pipeline and checkpoint.config is None:
        raise CheckpointError(
            f"{checkpoint.path} is {family.name}, which diffusers draws with the autoencoder and the configs of its "
            "diffusers folder; give that as --config, too, or draw with the node in ComfyUI."
        )
