"""A delta for one model in the forms that user interfaces load: LoRA, PEFT, or the dense difference.

W' = W (I + left · right) is W + (W · left) · right: a low-rank adapter whose `up` is W · left and whose `down` is
`right`, exactly. With alpha = rank every loader scales it by 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from timecli import layouts
from timecli.checkpoint import EDITS, Checkpoint, Place
from timecli.delta import Delta
from timecli.edit import covers
from timecli.errors import DeltaError
from timecli.safefile import convert
from timecli.solve import Operator

FORMATS = ("lora", "peft", "diff")
KOHYA = {
    # ModelSpec's architecture -> how kohya's trainer calls the base model, which A1111 and Forge read
    layouts.SD1.short: {"ss_base_model_version": "sd_v1", "ss_v2": "False"},
    layouts.SD2.short: {"ss_base_model_version": "sd_v2", "ss_v2": "True"},
    layouts.SDXL.short: {"ss_base_model_version": "sdxl_base_v1-0", "ss_v2": "False"},
}

Tensors = dict[str, torch.Tensor]


def truncated(operator: Operator, rank: int | None, tolerance: float | None) -> tuple[Operator, float]:
    """The operator with fewer columns, and the share of D that is lost, ‖D − D_r‖ / ‖D‖ in the Frobenius norm.

    The columns stand in the order of their singular values, so the first are the best approximation of their number.

    Args:
        operator: D, in balanced factors.
        rank: columns to keep at most.
        tolerance: share of D that may be lost; the fewest columns that do.
    """
    sizes = (operator.left.double().norm(dim=0) * operator.right.double().norm(dim=1)).square()
    tail = sizes.flip(0).cumsum(0).flip(0)  # what is lost with this column and all behind it
    lost = torch.cat([(tail / tail[0]).sqrt(), torch.zeros(1, dtype=torch.float64)])
    keep = operator.rank if rank is None else min(rank, operator.rank)
    if tolerance is not None:
        keep = min(keep, int((lost > tolerance).sum()))
    keep = max(keep, 1)
    cut = replace(operator, left=operator.left[:, :keep].clone(), right=operator.right[:keep].clone())
    return cut, float(lost[keep])


def adapter(checkpoint: Checkpoint, delta: Delta, form: str, dtype: torch.dtype) -> Tensors:
    """The adapter's tensors for every matrix of `checkpoint` that the delta covers.

    Args:
        checkpoint: the model that the adapter is for.
        delta: the edit, for the checkpoint's text encoder.
        form: one of `FORMATS`.
        dtype: of the tensors; the products are made in float64.
    """
    tensors: Tensors = {}
    for place, weight in checkpoint.projections(twins=False):
        if covers(delta.origin, place.matrix):
            up = weight.double() @ delta.operator.left.double()
            parts = _parts(form, place, up, delta.operator.right.double())
            tensors |= {name: convert(tensor, dtype, name) for name, tensor in parts.items()}
    if not tensors:
        raise DeltaError(f"the delta {delta.origin.name!r} covers no matrix of {checkpoint.path}.")
    return tensors


def _parts(form: str, place: Place, up: torch.Tensor, down: torch.Tensor) -> Tensors:
    module = place.matrix.names[layouts.DIFFUSERS].removesuffix(".weight")
    kohya = f"lora_unet_{module.replace('.', '_')}"
    if form == "diff":
        return {f"{kohya}.diff": up @ down}
    if form == "peft":
        return {f"unet.{module}.lora_A.weight": down, f"unet.{module}.lora_B.weight": up}
    alpha = torch.tensor(float(len(down)), dtype=torch.float64)
    return {f"{kohya}.lora_up.weight": up, f"{kohya}.lora_down.weight": down, f"{kohya}.alpha": alpha}


def about(checkpoint: Checkpoint, delta: Delta, form: str, records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The adapter's metadata: what A1111, Forge and kohya's tools read, ModelSpec, and the edit."""
    family, rank = checkpoint.family, str(delta.operator.rank)
    network = {"ss_network_module": "networks.lora", "ss_network_dim": rank, "ss_network_alpha": rank}
    return {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{family.short}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": delta.origin.name,
        "ss_output_name": delta.origin.name,
        **KOHYA[family.short],
        **(network if form == "lora" else {}),
        EDITS: json.dumps(list(records), sort_keys=True),
    }
