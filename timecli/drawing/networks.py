"""What differs between kinds of pipelines: the part that draws, its size, and how noise and guidance are given."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch

from timecli.drawing import memory

DEFAULT_SIDE = 1024
"""Side of a picture where neither network nor autoencoder says what it was made for."""

LENGTH = "text_length"
"""In the config of a diffusion transformer that draws: how many positions its text is filled up to."""


def network_of(pipeline: Any) -> Any:
    """The part that draws: a UNet or a diffusion transformer."""
    found = pipeline.components
    return found.get("unet") or found["transformer"]


def side_of(pipeline: Any) -> int:
    """Side of a picture, in latent pixels: what the network was made for, else what the autoencoder was."""
    side: int | None = getattr(network_of(pipeline).config, "sample_size", None)
    if side is None:
        side = int(getattr(pipeline.vae.config, "sample_size", DEFAULT_SIDE)) // int(pipeline.vae_scale_factor)
    return side


def channels(pipeline: Any) -> tuple[int, int]:
    """How many channels the network takes, and how many of them it gives back, which are the picture's own."""
    config: Any = network_of(pipeline).config
    taken, given = int(config.in_channels), int(getattr(config, "out_channels", None) or config.in_channels)
    packed = given * int(getattr(config, "patch_size", None) or 1) ** 2  # some count what is packed before it enters
    return taken, packed if packed == taken else given


def batch_size(pipeline: Any) -> int:
    """How many pictures are drawn at once: by their size, and on a GPU by the memory that is free."""
    return memory.pictures(side_of(pipeline) ** 2, memory.free(pipeline._execution_device))


def start_noise(pipeline: Any, seed: int) -> torch.Tensor:
    """Start noise `[channels, height, width]` of a seed; drawn on the CPU so that every device gets the same."""
    shape = (pipeline.vae.config.latent_channels, side_of(pipeline), side_of(pipeline))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def asked(pipeline: Any, seeds: Sequence[int], guidance: float) -> dict[str, Any]:
    """Noise, size and guidance, as each kind of pipeline takes them.

    Diffusion transformers pack their noise, and draw it themselves from the seeds. Of those that can be guided by an
    empty prompt beside a guidance embedding, one that has the embedding is given the scale there, and no prompt beside.
    """
    if "unet" in pipeline.components:
        latents = torch.stack([start_noise(pipeline, seed) for seed in seeds]).to(pipeline.unet.dtype)
        return {"latents": latents, "guidance_scale": guidance}
    side = side_of(pipeline) * pipeline.vae_scale_factor
    taken = signature(pipeline.__call__).parameters
    found: dict[str, Any] = {"height": side, "width": side, "max_sequence_length": network_of(pipeline).config[LENGTH]}
    if "true_cfg_scale" in taken and not getattr(network_of(pipeline).config, "guidance_embeds", False):
        return {**found, "true_cfg_scale": guidance, "negative_prompt": [""] * len(seeds)}
    return {**found, "guidance_scale": guidance}
