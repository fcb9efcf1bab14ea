"""A timecli delta on the conditioning: c becomes c + s D c, for the text states and for the pooled vector.

Where text enters a network through linear maps, W (I + s D) c = W (c + s D c): an edit of the conditioning is the edit
of the weights, in whatever form these are. Torch and safetensors are all it needs.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

KEY, FORMAT = "timecli.delta", 1
NAMED = 200
"""Letters of a file that a sentence repeats."""
POOLED = "pooled_output"
"""How a conditioning calls the vector for the whole prompt."""
WEIGHTS = "edit the model with `timecli apply`, or load it as a LoRA of `timecli export`"
"""What can be done with a delta that is none for the conditioning."""


@dataclass(frozen=True)
class Operator:
    """D = left @ right, `[d, r]` and `[r, d]` float32."""

    left: torch.Tensor
    right: torch.Tensor

    @property
    def width(self) -> int:
        """The d of what it edits."""
        return self.left.shape[0]

    def __call__(self, states: torch.Tensor, strength: float) -> torch.Tensor:
        """Every row c of `states` `[..., d]` as c + s D c, in float32; dtype and device are those of `states`.

        Raises:
            ValueError: it is larger than numbers of that dtype.
        """
        wide = states.float()
        left, right = self.left.to(wide.device), self.right.to(wide.device)
        made = (wide + strength * ((wide @ right.T) @ left.T)).to(states.dtype)
        if states.isfinite().all() and not made.isfinite().all():
            raise ValueError(
                "the edit makes the conditioning infinite; lower the strength, or compile the delta again."
            )
        return made


@dataclass(frozen=True)
class Delta:
    """An edit of what a network is given of a prompt: `pooled` is None where it leaves the vector alone."""

    name: str
    text: Operator
    pooled: Operator | None


def read(path: str) -> Delta:
    """Read a delta file.

    Raises:
        ValueError: it is none, or one of which the conditioning is not the place.
    """
    try:
        if not os.path.isfile(path):  # reading a pipe would wait for ever
            raise OSError("it is no file")
        with safe_open(path, framework="pt") as file:
            about = _about(path, file.metadata() or {})
            names = set(file.keys())
            text = _operator(path, file, "", names)
            pooled = _operator(path, file, "pooled.", names) if names & {"pooled.left", "pooled.right"} else None
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a delta ({error}); `timecli edit --delta` writes one.") from error
    return Delta(str(about.get("name", path))[:NAMED], text, pooled)


def _about(path: str, metadata: dict[str, str]) -> dict[str, Any]:
    """What a delta says of itself; raises ValueError where the edit is no edit of the conditioning."""
    if KEY not in metadata:
        raise ValueError(f"{path} is no delta (no {KEY!r} in its metadata); `timecli edit --delta` writes one.")
    try:
        about = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is a damaged delta ({str(error)[:NAMED]}); compile the edit again.") from error
    if not isinstance(about, dict) or type(about.get("format")) is not int or about["format"] != FORMAT:
        raise ValueError(f"{path} has another delta format than {FORMAT}; take the node of the timecli that wrote it.")
    matrices, layers, normed = (about.get(key) for key in ("matrices", "layers", "behind_norm"))
    if not _are(matrices, str) or not (layers is None or _are(layers, int)) or normed not in (None, True, False):
        raise ValueError(f"{path} is a damaged delta (its metadata has other kinds of values); compile the edit again.")
    if layers is not None or set(matrices) != {"k", "v"}:
        raise ValueError(
            f"{path} edits some layers or only keys or values, and every layer reads the same conditioning; {WEIGHTS}."
        )
    if normed:
        raise ValueError(
            f"{path} edits text behind a norm of the network, where the conditioning has not been; {WEIGHTS}."
        )
    return about


def _are(values: Any, kind: type) -> bool:
    """Whether it is a list of values of this kind."""
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _operator(path: str, file: Any, prefix: str, names: set[str]) -> Operator:
    """The factors of one stream."""
    both = [f"{prefix}{name}" for name in ("left", "right")]
    if not names.issuperset(both):
        raise ValueError(f"{path} is a damaged delta ({both[0]} or {both[1]} is missing); compile it again.")
    slices = [file.get_slice(name) for name in both]
    (wide, high), kinds = ([list(one.get_shape()) for one in slices], {one.get_dtype() for one in slices})
    if kinds != {"F32"} or len(wide) != 2 or 0 in wide or wide != high[::-1]:
        raise ValueError(
            f"{path} is a damaged delta ({both[0]} and {both[1]} do not fit, they must be F32 [d, r] and [r, d]); "
            "compile it again."
        )
    left, right = (file.get_tensor(name) for name in both)
    if not (left.isfinite().all() and right.isfinite().all()):
        raise ValueError(
            f"{path} is a damaged delta ({prefix}left or {prefix}right holds NaN or infinite values); compile it again."
        )
    return Operator(left, right)


def edited(conditioning: list[Any], delta: Delta, strength: float) -> list[Any]:
    """An edited copy of a conditioning, a list of `[states, extras]`; what else is in the extras is handed on.

    Raises:
        ValueError: the delta is for states or for a pooled vector of another width, or there is none, or the strength
            is no finite number.
    """
    if not math.isfinite(strength):
        raise ValueError(f"strength is {strength}; give a number, such as 1.")
    return [list(_part(states, extras, delta, strength)) for states, extras in conditioning]


def _part(
    states: torch.Tensor, extras: dict[str, Any], delta: Delta, strength: float
) -> tuple[torch.Tensor, dict[str, Any]]:
    _require_width(delta, "text states", delta.text, states)
    extras = dict(extras)
    if delta.pooled is not None:
        vector = extras.get(POOLED)
        _require_width(delta, "a pooled vector", delta.pooled, vector)
        extras[POOLED] = delta.pooled(vector, strength)
    return delta.text(states, strength), extras


def _require_width(delta: Delta, what: str, operator: Operator, found: torch.Tensor | None) -> None:
    width = None if found is None else found.shape[-1]
    if width != operator.width:
        raise ValueError(
            f"the delta {delta.name!r} is for {what} of width {operator.width} and this conditioning has "
            f"{'none' if width is None else width}; compile the manifest for the model that you draw with."
        )
