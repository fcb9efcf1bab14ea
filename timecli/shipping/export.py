"""A delta for one model in the forms that user interfaces load: LoRA, PEFT, or the dense difference.

W' = W (I + left · right) is W + (W · left) · right: a low-rank adapter whose `up` is W · left and whose `down` is
`right`, exactly. With alpha = rank every loader scales it by 1.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from timecli.editing.applying import for_matrix
from timecli.editing.delta import Delta
from timecli.editing.solve import Operator
from timecli.errors import DeltaError
from timecli.files.safefile import SafeFile
from timecli.files.tensors import convert, raw
from timecli.models import layouts, streams
from timecli.models.carried import MADE
from timecli.models.checkpoint import EDITS, edits
from timecli.models.maps import Network
from timecli.shipping.provenance import architecture

KOHYA = {
    # family -> how kohya's trainer calls the base model, which A1111 and Forge read
    layouts.SD1.name: {"ss_base_model_version": "sd_v1", "ss_v2": "False"},
    layouts.SD2.name: {"ss_base_model_version": "sd_v2", "ss_v2": "True"},
    layouts.SDXL.name: {"ss_base_model_version": "sdxl_base_v1-0", "ss_v2": "False"},
}
OUTPUT_NAME = "ss_output_name"
"""Metadata that kohya's trainer writes into a LoRA, and no model has beside a record of edits."""
ENDS = (".lora_up.weight", ".lora_B.weight", ".diff")
"""How the names of an adapter's tensors end, one for each form."""

TOLERANCE, LARGEST = 0.01, 99_000_000
"""Where nobody says otherwise: the share of D that may be lost, and the most bytes of a LoRA's numbers, which count
more; with its header it has no more than 100 MB."""
LOST = 0.05
"""Share of D that is not lost without a word."""

Tensors = dict[str, torch.Tensor]


def truncated(operator: Operator, rank: int | None, tolerance: float | None) -> tuple[Operator, float]:
    """The operator with fewer columns, and the share of D that is lost, ‖D − D_r‖ / ‖D‖ in the Frobenius norm.

    The columns stand in the order of their singular values, so the first are the best approximation of their number.

    Args:
        operator: D, in balanced factors.
        rank: columns to keep at most.
        tolerance: share of D that may be lost; the fewest columns that do.
    """
    if not operator.rank:  # D is zero
        return operator, 0.0
    sizes = (operator.left.double().norm(dim=0) * operator.right.double().norm(dim=1)).square()
    tail = sizes.flip(0).cumsum(0).flip(0)  # what is lost with this column and all behind it
    shares = tail / tail[0].clamp(min=torch.finfo(torch.float64).tiny)  # an operator of zeros loses nothing
    lost = torch.cat([shares.sqrt(), torch.zeros(1, dtype=torch.float64)])
    keep = operator.rank if rank is None else min(rank, operator.rank)
    if tolerance is not None:
        keep = min(keep, int((lost > tolerance).sum()))
    keep = max(keep, 1)
    cut = replace(operator, left=operator.left[:, :keep].clone(), right=operator.right[:keep].clone())
    return cut, float(lost[keep])


def fitting(checkpoint: Network, delta: Delta, dtype: torch.dtype) -> int:
    """How many columns a LoRA of `LARGEST` bytes has for every map of a model."""
    sizes = [sum(checkpoint.shape(matrix)) for matrix in checkpoint.family.matrices if for_matrix([delta], matrix)]
    return max(1, LARGEST // max(1, dtype.itemsize * sum(sizes)))


def smaller(delta: Delta, rank: int | None, tolerance: float | None) -> tuple[Delta, float]:
    """The delta with every operator `truncated`, and the largest share of one that is lost."""
    cut = {stream: truncated(operator, rank, tolerance) for stream, operator in delta.operators.items()}
    operators = {stream: operator for stream, (operator, _) in cut.items()}
    return replace(delta, operators=operators), max(lost for _, lost in cut.values())


@dataclass(frozen=True)
class Adapter:
    """A delta for one model.

    Attributes:
        tensors: what the file holds.
        base: SHA-256 over the model's matrices, as `carried.base_hash` takes it.
        made: SHA-256 over the adapter's own tensors, in the order of their names.
        error: ‖up · down − W D‖ / ‖W D‖ over all matrices in the Frobenius norm, for a smaller rank and the dtype.
    """

    tensors: Tensors
    base: str
    made: str
    error: float


def adapter(checkpoint: Network, delta: Delta, form: str, dtype: torch.dtype, small: Delta) -> Adapter:
    """The delta for every matrix of `checkpoint` that it covers.

    Args:
        checkpoint: the model that the adapter is for.
        delta: the edit, for the checkpoint's text encoder.
        form: "lora", "peft" or "diff".
        dtype: of the tensors; the products are made in float64.
        small: the delta, or one with fewer columns (`smaller`).
    """
    tensors: Tensors = {}
    digest, rest, whole = hashlib.sha256(), 0.0, 0.0
    for place, weight in checkpoint.projections(twins=False):
        digest.update(raw(weight))
        for whole_edit, operator in zip(*(for_matrix([one], place.matrix) for one in (delta, small)), strict=True):
            up, down = (convert(part, dtype, place.where) for part in _factors(weight, operator))
            left, right = _factors(weight, whole_edit)
            change = left @ right
            found = up.double() @ down.double()
            if form == "diff":
                found = convert(found, dtype, place.where)
            tensors |= _named(form, checkpoint.family, place.matrix, up, down, found)
            rest += float((found.double() - change).square().sum())
            whole += float(change.square().sum())
    if not tensors:
        raise DeltaError(f"the delta {delta.origin.name!r} covers no matrix of {checkpoint.path}.")
    if not whole:
        raise DeltaError(
            f"the delta {delta.origin.name!r} changes nothing of {checkpoint.path}, since it or the model's maps are "
            "zero; there is nothing to export."
        )
    made = hashlib.sha256()
    for name in sorted(tensors):
        made.update(raw(tensors[name]))
    return Adapter(tensors, digest.hexdigest(), made.hexdigest(), (rest / whole) ** 0.5)


def _factors(weight: torch.Tensor, operator: Operator) -> tuple[torch.Tensor, torch.Tensor]:
    """`up` [out, r] and `down` [r, in] of W D, float64; where W has more columns than text, D has zeros for them."""
    down = torch.nn.functional.pad(operator.right.double(), (0, weight.shape[1] - operator.width))
    return weight[:, : operator.width].double() @ operator.left.double(), down


def _named(
    form: str,
    family: streams.Family,
    matrix: streams.Matrix,
    up: torch.Tensor,
    down: torch.Tensor,
    change: torch.Tensor,
) -> Tensors:
    """The tensors for one matrix, under the names that the loaders of a form know.

    kohya's trainer has diffusers' block names for SD 1 and SD 2 and those of the original code for SDXL.
    """
    kohya = f"lora_unet_{matrix.names[family.kohya].removesuffix('.weight').replace('.', '_')}"
    if form == "diff":
        return {f"{kohya}.diff": change}
    if form == "peft":
        module = matrix.names[streams.DIFFUSERS].removesuffix(".weight")
        return {f"{family.network}.{module}.lora_A.weight": down, f"{family.network}.{module}.lora_B.weight": up}
    alpha = torch.tensor(float(len(down)))  # float32 holds every rank: bf16 none above 256, fp16 none above 2048
    return {f"{kohya}.lora_up.weight": up, f"{kohya}.lora_down.weight": down, f"{kohya}.alpha": alpha}


def unread(form: str, family: streams.Family) -> str | None:
    """A sentence where a form's names are not known to a program that loads the default; None where that is not so."""
    if form == "diff" or form == family.adapter or family.network != "unet" and family.adapter == "lora":
        return None
    program, maps = ("ComfyUI", "key or value") if form == "peft" else ("diffusers", "map")
    return f"{program} finds no {maps} of {family.name} under these names; leave out --format for some that it loads."


def about(checkpoint: Network, delta: Delta, form: str, records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The adapter's metadata: what A1111, Forge and kohya's tools read, ModelSpec, and the edit."""
    family, rank = checkpoint.family, delta.operator.rank
    network = {"ss_network_module": "networks.lora", "ss_network_dim": str(rank), "ss_network_alpha": str(rank)}
    return {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        **({"modelspec.architecture": f"{base}/lora"} if (base := architecture(checkpoint)) else {}),
        "modelspec.implementation": "diffusers",
        "modelspec.title": delta.origin.name,
        OUTPUT_NAME: delta.origin.name,
        **KOHYA.get(family.name, {}),
        **(network if form == "lora" else {}),
        EDITS: json.dumps(list(records), sort_keys=True),
    }


def is_adapter(file: SafeFile) -> bool:
    """Whether a file is what `timecli export` writes."""
    named = any(name.endswith(ENDS) for name in file.entries)
    return named and {EDITS, OUTPUT_NAME} <= file.metadata.keys()


def holds(file: SafeFile) -> bool | None:
    """Whether an adapter has the tensors that were written with its record; None where the record has no hash."""
    made, digest = edits(file)[-1].get(MADE), hashlib.sha256()
    for name in sorted(file.entries):
        for piece in file.content(name):
            digest.update(piece)
    return None if made is None else made == digest.hexdigest()


def describe(file: SafeFile) -> dict[str, Any]:
    """What `timecli inspect` says of an adapter."""
    return {
        "form": "adapter",
        "architecture": file.metadata.get("modelspec.architecture", "not stated"),
        "dtypes": dict(Counter(entry["dtype"] for entry in file.entries.values())),
        "tensors": len(file.entries),
        "edits": edits(file),
    }
