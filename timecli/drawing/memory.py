"""How much is drawn at once, and where a model's parts lie while it is."""

from __future__ import annotations

from typing import Any

import torch

LATENT_PIXELS = 16384
"""How many latent pixels one batch may hold: 4 pictures of 512 x 512, 64 of 64 x 64."""
SHARE = 8 * 2**30
"""Bytes of a GPU's free memory for which a batch may hold so many."""
LARGEST = 64
"""Pictures of a batch."""
ROOM = 1.5
"""Beside a model's weights there must be room for half as much again, or its parts take turns on the GPU."""


def free(device: torch.device) -> int | None:
    """Free bytes of a GPU; None where that is no limit."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def pictures(latent: int, room: int | None) -> int:
    """Pictures of so many latent pixels in a batch, with `room` bytes free on a GPU."""
    shares = 1 if room is None else max(1, room // SHARE)
    return max(1, min(LARGEST, shares * LATENT_PIXELS // latent))


def placed(pipeline: Any, device: torch.device) -> Any:
    """The pipeline where it draws. Where a GPU has no room for all of it, its parts go there when they are needed."""
    room = free(device)
    if room is not None and ROOM * size(pipeline) > room:
        pipeline.enable_model_cpu_offload(device=device)
        pipeline.vae.enable_tiling()
        return pipeline
    return pipeline.to(device)


def size(pipeline: Any) -> int:
    """Bytes of all weights."""
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(tensor.nbytes for module in modules for tensor in module.parameters())
