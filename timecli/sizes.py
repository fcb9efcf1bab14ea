"""How large a text encoder is, from its weights, and what no weight tells, from its config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextConfig

from timecli import foreign, layouts
from timecli.errors import CheckpointError, one_line
from timecli.shown import brief


def measured(weights: Mapping[str, torch.Tensor], name: str) -> dict[str, int]:
    """A text encoder's sizes from its shapes, by the names that its config has for them."""
    shapes = {}
    for key in (layouts.HF_MARK, "embeddings.position_embedding.weight", "encoder.layers.0.mlp.fc1.weight"):
        if key not in weights:
            raise CheckpointError(f"{name} has a text encoder without {key}; the file is incomplete.")
        shapes[key] = tuple(weights[key].shape)
        if len(shapes[key]) != 2 or 0 in shapes[key]:
            raise CheckpointError(f"{name} has a text encoder whose {key} is {list(shapes[key])}; use another copy.")
    for key, value in weights.items():
        if not value.is_floating_point() and not key.endswith("position_ids"):
            raise CheckpointError(
                f"{name} has a text encoder whose {key} is {value.dtype}; use a copy in fp16 or fp32."
            )
    (vocabulary, width), (length, _), (inner, _) = shapes.values()
    return {
        "hidden_size": width,
        "vocab_size": vocabulary,
        "max_position_embeddings": length,
        "intermediate_size": inner,
        "num_hidden_layers": len({key.split(".")[2] for key in weights if key.startswith("encoder.layers.")}),
    }


def guessed(sizes: Mapping[str, int], tower: layouts.Tower, name: str) -> dict[str, Any]:
    """What no shape tells: CLIP's heads are 64 wide in every release, and its activation follows from the family."""
    width = sizes["hidden_size"]
    if width % 64:
        raise CheckpointError(f"{name} has a text encoder of width {width}, which CLIP has not; give its --config.")
    return {"num_attention_heads": width // 64, "hidden_act": "gelu" if tower.openclip else "quick_gelu"}


def stated(config: Path, sizes: Mapping[str, int], name: str) -> dict[str, Any]:
    """What no shape tells, from a `config.json`, whose sizes must be those of the weights."""
    try:
        table = foreign.read_json(foreign.read(config, CheckpointError))
    except ValueError as error:
        raise CheckpointError(f"{config} is not valid JSON ({one_line(error)}); copy it again.") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{config} is {brief(table)}, not the config of a text encoder; copy it again.")
    found = {**CLIPTextConfig().to_dict(), **table}
    for key, size in sizes.items():
        if found[key] != size:
            raise CheckpointError(
                f"{config}: {key} is {brief(found[key])} and the text encoder of {name} has {size}; use its own config."
            )
    heads, width = found["num_attention_heads"], sizes["hidden_size"]
    if not isinstance(heads, int) or not 1 <= heads <= width or width % heads:
        raise CheckpointError(
            f"{config}: num_attention_heads is {brief(heads)}, which does not divide {width}; use its own config."
        )
    return {"num_attention_heads": heads, **{key: found[key] for key in ("hidden_act", "layer_norm_eps")}}
