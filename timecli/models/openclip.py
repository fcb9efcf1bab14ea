"""OpenCLIP's text towers under transformers' names: SD 2 and SDXL single files carry them as OpenCLIP wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BLOCK = "transformer.resblocks."
OUTSIDE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
INSIDE = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
FUSED = "attn.in_proj_"
PROJECTION, HF_PROJECTION = "text_projection", "text_projection.weight"
"""Of the end token's state, in OpenCLIP's names and in transformers', where it lies transposed."""
SURPLUS = 100
"""More blocks than any tower has."""


def to_transformers(weights: Mapping[str, torch.Tensor], blocks: int | None) -> dict[str, torch.Tensor]:
    """The tower's tensors by the names of transformers' `CLIPTextModel`.

    Args:
        weights: tensors by OpenCLIP's names. Queries, keys and values of a block are one tensor, stacked in this order.
        blocks: how many to take, from the first; None for all.

    Tensors that are no part of the text (`logit_scale`) are left out.
    """
    behind = () if blocks is None else tuple(f"{BLOCK}{number}." for number in range(blocks, SURPLUS))
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if name in OUTSIDE:
            renamed[OUTSIDE[name]] = tensor
        elif name == PROJECTION:
            renamed[HF_PROJECTION] = tensor.T
        elif name.startswith(BLOCK) and not name.startswith(behind):
            number, part = name.removeprefix(BLOCK).split(".", 1)
            renamed |= _inside(f"encoder.layers.{number}.", part, tensor)
    return renamed


def _inside(layer: str, part: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    if part.startswith(FUSED):
        kind = part.removeprefix(FUSED)
        return {f"{layer}self_attn.{q}_proj.{kind}": piece for q, piece in zip("qkv", tensor.chunk(3), strict=True)}
    module, _, kind = part.rpartition(".")
    return {f"{layer}{INSIDE.get(module, module)}.{kind}": tensor}
