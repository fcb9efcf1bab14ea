"""Tensors as ComfyUI's scaled fp8 has them, and as the numbers that they stand for."""

from __future__ import annotations

import json

import torch

E4M3 = torch.float8_e4m3fn
TABLES = ("embed", "shared.", "relative_attention_bias")
"""What is in the names of tables, which stay as they are."""
FORMS = ("scale_weight", "weight_scale", "rows", "column")
"""ComfyUI's older and later names, and one number for each row, in two shapes."""


def is_scaled(name: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor is the matrix of a linear layer."""
    return tensor.ndim == 2 and name.endswith(".weight") and not any(part in name for part in TABLES)


def scaled(
    tensors: dict[str, torch.Tensor], form: str = "scale_weight", prefix: str = "", kind: torch.dtype = E4M3
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A text encoder in fp8 with factors, and in float32."""
    older = form == "scale_weight"
    stored, exact = {f"{prefix}scaled_fp8": torch.zeros(0).to(kind)} if older else {}, {}
    for name, tensor in tensors.items():
        exact[name] = stored[name] = tensor
        if is_scaled(name, tensor):
            rows = form in ("rows", "column")
            most = tensor.abs().amax(1, keepdim=True) if rows else tensor.abs().max()
            factor = most.float() / torch.finfo(kind).max
            stored[name] = (tensor / factor).to(kind)
            exact[name] = stored[name].float() * factor
            module = name.removesuffix("weight")
            stored[module + ("scale_weight" if older else "weight_scale")] = factor[:, 0] if form == "rows" else factor
            stored[module + ("scale_input" if older else "input_scale")] = torch.tensor(3.0)
            if not older:
                note = json.dumps({"format": "float8_e4m3fn"}).encode()
                stored[f"{module}comfy_quant"] = torch.tensor(list(note), dtype=torch.uint8)
    return stored, exact
