"""A MODEL's maps that read text: their weights, and an edit as a patch of them.

The patch is an adapter on the ModelPatcher, as a LoRA is: ComfyUI gives it the weight that is there, in whatever form
the model keeps it, and takes the change back when the patch is unplugged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher, get_key_weight
from comfy.weight_adapter.base import WeightAdapterBase

import timecli
from timecli.editing.applying import covers
from timecli.editing.delta import Delta
from timecli.editing.solve import Operator, apply
from timecli.errors import CheckpointError, DeltaError
from timecli.models.maps import Maps
from timecli.models.streams import POOLED, TEXT, Matrix

PREFIX = "diffusion_model."
NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
"""Weights that ComfyUI patches as they are."""
CALLED = {TEXT: "text", POOLED: "a pooled vector"}
"""How errors call what a network reads."""
ELSEWHERE = "take the node 'Apply timecli delta' on the conditioning"


def as_loaded(model: ModelPatcher, key: str, weight: torch.Tensor) -> torch.Tensor:
    """A weight without the patches that ComfyUI may have put on it since."""
    if key in model.backup:  # hooks keep what was patched before them
        return model.backup[key].weight  # type: ignore[no-any-return]
    return model.hook_backup[key][0] if key in model.hook_backup else weight


def number(model: ModelPatcher, key: str) -> torch.Tensor:
    """What a weight stands for in whatever form it is kept, without patches, in float32 on the CPU."""
    weight, _, convert = get_key_weight(model.model, key)
    weight = as_loaded(model, key, weight)
    wide = comfy.model_management.cast_to_device(weight, torch.device("cpu"), torch.float32, copy=True)
    return convert(wide, inplace=True) if convert else wide


class Weights(Mapping[str, torch.Tensor]):
    """The weights of a MODEL as it was loaded, without patches, by the names of a single file."""

    def __init__(self, model: ModelPatcher) -> None:
        """Nothing is read until it is asked for."""
        self.model = model
        held = dict(model.model.named_parameters())  # a packed weight has its own shape there, and another in the state
        self.shapes = {
            name.removeprefix(PREFIX): tuple(held.get(name, tensor).shape)
            for name, tensor in model.model_state_dict(PREFIX).items()
        }

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.shapes)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.shapes)

    def __getitem__(self, name: str) -> torch.Tensor:
        """A weight in float32 on the CPU."""
        key = PREFIX + name
        weight, _, convert = get_key_weight(self.model.model, key)
        weight = as_loaded(self.model, key, weight)
        if not weight.is_floating_point() and not convert:
            return self._asked(key, weight.device)
        return number(self.model, key)

    def _asked(self, key: str, device: torch.device) -> torch.Tensor:
        """A weight that only its layer can read (GGUF): what the layer makes of the unit vectors."""
        layer = self.model.model.get_submodule(key.removesuffix(".weight"))
        units = torch.eye(self.shapes[key.removeprefix(PREFIX)][1], device=device)
        weight = layer.weight
        patches, weight.patches = getattr(weight, "patches", []), []  # in which GGUF keeps those of its weights
        try:
            return (layer(units) - layer(torch.zeros_like(units[:1]))).T.float().cpu()
        finally:
            weight.patches = patches

    def strange(self, name: str) -> str | None:
        """What a weight is that neither ComfyUI nor the pack that has loaded it can patch; None for all others."""
        weight, write, read = get_key_weight(self.model.model, PREFIX + name)
        own = type(self.model).patch_weight_to_device is not ModelPatcher.patch_weight_to_device
        plain = type(weight) in (torch.Tensor, torch.nn.Parameter) and weight.dtype in NUMBERS
        if own or plain or (write and read):
            return None
        kind = "" if type(weight) is torch.nn.Parameter else f"{type(weight).__name__} of "
        return f"{kind}{weight.dtype}"


def maps(model: ModelPatcher) -> Maps:
    """The maps of a MODEL that read text.

    Raises:
        CheckpointError: it is of no family that can be edited, or its weights are of a form that cannot be patched.
    """
    weights = Weights(model)
    try:
        found = timecli.loaded_maps(weights, weights.shapes, "this MODEL")
    except CheckpointError:
        _require_plain(weights, [name for name in weights if name.endswith(".weight")])
        raise
    _require_plain(weights, map(found.name, found.family.matrices))
    return found


def _require_plain(weights: Weights, names: Iterable[str]) -> None:
    for name in names:
        if what := weights.strange(name):
            raise CheckpointError(f"this MODEL holds {name} as {what}, which cannot be patched; {ELSEWHERE}.")


class Edit(WeightAdapterBase):
    """W becomes W (I + s D), computed in float32 on the weight that is there."""

    name = "timecli"

    def __init__(self, operator: Operator) -> None:
        """The edit of one stream."""
        self.operator = operator
        self.loaded_keys = set()
        self.weights = [operator.left, operator.right]

    def calculate_weight(
        self, weight: torch.Tensor, key: str, strength: float, *others: Any, **more: Any
    ) -> torch.Tensor:
        """The edited weight, with the dtype and on the device of the one that is given."""
        return apply(weight, self.operator, strength).to(weight.dtype)


def patched(model: ModelPatcher, delta: Delta, strength: float) -> ModelPatcher:
    """A clone of a MODEL with an edit on its maps; with strength 0, with none.

    Raises:
        CheckpointError: as in `maps`.
        DeltaError: the edit is for text of another width, behind a norm or before it, or the maps cannot be patched.
    """
    if not math.isfinite(strength):
        raise DeltaError(f"strength is {strength}; give a number, such as 1.")
    found = maps(model)
    require_fit(delta, found)
    wanted = {
        PREFIX + found.name(matrix): Edit(delta.operators[matrix.stream])
        for matrix in found.family.matrices
        if matrix.stream in delta.operators and covers(delta.origin, matrix)
    }
    if not wanted:
        raise DeltaError(f"the delta {delta.origin.name!r} edits none of the maps of {found.family.name}.")
    clone = model.clone()
    left = wanted.keys() - set(clone.add_patches(wanted, strength)) if strength else set()
    if left:
        raise DeltaError(f"this MODEL does not let {min(left)} be patched; {ELSEWHERE}.")
    return clone


def require_fit(delta: Delta, found: Maps) -> None:
    """Refuse an edit of another kind of model; raises DeltaError."""
    about, family = f"the delta {delta.origin.name!r} was made for", found.family
    for stream, operator in delta.operators.items():
        matrix = next((one for one in family.matrices if one.stream == stream), None)
        if matrix is None or not fits(matrix, found, operator.width):
            reads = "no such vector" if matrix is None else found.shape(matrix)[-1]
            raise DeltaError(
                f"{about} {CALLED[stream]} of width {operator.width}, and this MODEL, {family.name}, reads {reads}; "
                "compile the edit for this model."
            )
    if delta.origin.behind_norm != (family.norm is not None):
        side = "behind a norm of the network" if delta.origin.behind_norm else "that no norm of the network has changed"
        raise DeltaError(f"{about} text {side}, and this MODEL is {family.name}; compile the edit for this model.")


def fits(matrix: Matrix, found: Maps, wanted: int) -> bool:
    """Whether a map reads text of a width."""
    width = found.shape(matrix)[-1]
    return width == wanted or (matrix.leading and width > wanted)
