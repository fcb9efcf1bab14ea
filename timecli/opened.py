"""What an edit is made for: a model on disk with its text encoder in memory, or one that another program holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from timecli.models.checkpoint import Checkpoint
    from timecli.models.maps import Maps, Network
    from timecli.text.readers import TextEncoder

Pathlike = str | PathLike[str]


@dataclass(frozen=True)
class Loaded:
    """A model that another program holds in memory: what an edit is compiled and forecast for.

    Attributes:
        checkpoint: its maps that read text, from `loaded_maps`.
        encoder: a `timecli.text.readers.TextEncoder` that gives the states which the network is fed with.
        device: where to calculate.
    """

    checkpoint: Network
    encoder: TextEncoder
    device: torch.device


@dataclass(frozen=True)
class Model(Loaded):
    """A model on disk with its text encoder in memory.

    Attributes:
        checkpoint: where its tensors are.
        encoder: its text encoders, float32; `encoder.embed` gives states `[positions, d]` of each prompt, float64.
        device: where to calculate.
    """

    checkpoint: Checkpoint


def open_model(
    path: Pathlike,
    config: Pathlike | None = None,
    text_encoder: Sequence[Pathlike] = (),
    tokenizer: Pathlike | None = None,
    clip_skip: int = 1,
    length: int | None = None,
    device: str = "cpu",
) -> Model:
    """Open a model and read its text encoder; no UNet is built.

    Args:
        path: a single .safetensors file, or a diffusers folder.
        config: a diffusers folder with configs and tokenizers; by default one named `config` beside the file.
        text_encoder: files or folders of text encoders, for a model that has none.
        tokenizer: a tokenizer folder.
        clip_skip: which layer's states the model is drawn with, counted from the last as A1111 counts.
        length: how many positions a diffusion transformer's text is filled up to; None for as many as diffusers.
        device: where to encode and to calculate: "cpu", "cuda", "cuda:1". Edits are solved in float64.

    Raises:
        CheckpointError: it is no model of a known family in safetensors form, or damaged.
    """
    import torch

    from timecli.models.checkpoint import open_checkpoint
    from timecli.text.encoding import read_text_encoder

    folder = None if config is None else Path(config)
    checkpoint = open_checkpoint(Path(path), folder, [Path(one) for one in text_encoder])
    where = torch.device(device)
    encoder = read_text_encoder(checkpoint, None if tokenizer is None else Path(tokenizer), where, clip_skip, length)
    return Model(checkpoint, encoder, where)


def loaded_maps(weights: Mapping[str, torch.Tensor], shapes: Mapping[str, Sequence[int]], name: str) -> Maps:
    """The maps of a network that another program holds in memory.

    Args:
        weights: maps `[out, d]` by the names that a single file with the network alone has for them; each is asked for
            when it is needed, and by a name of the table of `timecli.models.layouts`.
        shapes: of all tensors of the network, by which its family is told.
        name: how errors call the network.

    Raises:
        CheckpointError: it is no model of a known family.
    """
    from timecli.models import maps

    return maps.find(weights, {key: tuple(shape) for key, shape in shapes.items()}, name)
