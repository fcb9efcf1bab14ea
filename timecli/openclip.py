"""OpenCLIP's text towers under transformers' names: SD 2 and SDXL single files carry them as OpenCLIP wrote them."""

from __future__ import annotations

from collections.abc import Mapping

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


def to_transformers(weights: Mapping[str, torch.Tensor], drop_last: bool) -> dict[str, torch.Tensor]:
    """The tower's tensors by the names of transformers' `CLIPTextModel`.

    Args:
        weights: tensors by OpenCLIP's names. Queries, keys and values of a block are one tensor, stacked in this order.
        drop_last: leave the last block out, as SD 2 does: it reads the states before that block.

    Tensors that are no part of the tower's states (`text_projection`, `logit_scale`) are left out.
    """
    blocks = [int(name.split(".")[2]) for name in weights if name.startswith(BLOCK)]
    last = max(blocks, default=-1)
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if name in OUTSIDE:
            renamed[OUTSIDE[name]] = tensor
        elif name.startswith(BLOCK) and not (drop_last and int(name.split(".")[2]) == last):
            number, part = name.removeprefix(BLOCK).split(".", 1)
            renamed |= _inside(f"encoder.layers.{number}.", part, tensor)
    return renamed


def _inside(layer: str, part: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    if part.startswith(FUSED):
        kind = part.removeprefix(FUSED)
        return {f"{layer}self_attn.{q}_proj.{kind}": piece for q, piece in zip("qkv", tensor.chunk(3), strict=True)}
    module, _, kind = part.rpartition(".")
    return {f"{layer}{INSIDE.get(module, module)}.{kind}": tensor}
