"""Quantised weights: what stands beside them, and what they are read as; most are refused, or left as they are."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from timecli.errors import CheckpointError
from timecli.files.safefile import ITEMSIZES, SafeFile, require_finite

if TYPE_CHECKING:  # a header is refused before torch is loaded
    import torch

SCALES = ("scale_weight", "weight_scale", "weight_scale_inv", "weight_scale_2", "scale")
"""How the factor beside a quantised weight ends, in place of `weight`."""
FACTORS = SCALES[:2]
"""How a factor ends that fp8 needs alone, in ComfyUI's files: the number of a weight is its fp8 times it."""
NOTES = ("comfy_quant", "SCB")
"""What else stands beside a quantised weight, with how it is to be read."""
INPUTS = ("scale_input", "input_scale")
"""How the factor of what a layer is given ends; where activations are no fp8, nothing asks for it."""
QUANTISED = re.compile(r"\.(weight\._data|weight:\w+|_?weight_qdata|qweight|W_q)$")
"""How a tensor is called whose weight a quantiser packed under another name."""
MARK = "scaled_fp8"
"""How the tensor ends by which a whole file says that its fp8 has factors."""
PART = re.compile(r"\.(weight([_:]\w+|\.[\w.]+)?|\w+)$")
"""The end of a tensor's name behind that of its module; some quantisers put names behind `weight`."""


def require_floats(file: SafeFile, names: Iterable[str], way_out: str = "use a copy of the model in {}") -> None:
    """Refuse tensors whose numbers are not all that they say: integers, and quantised weights with a factor beside.

    Args:
        file: has them.
        names: of the tensors.
        way_out: what to do about it, with a place for the dtypes that are read.

    Raises:
        CheckpointError: with the tensor's name.
    """
    for name in names:
        if (kind := file.entries[name]["dtype"]) not in ITEMSIZES:
            raise CheckpointError(f"{file.path}: {name} is {kind}; {way_out.format('fp16, bf16 or fp32')}.")
        if name.endswith("weight"):
            for end in SCALES:
                if (scale := name.removesuffix("weight") + end) in file.entries:
                    raise CheckpointError(
                        f"{file.path}: {name} is quantised, with its factor in {scale}; "
                        f"{way_out.format('fp16, bf16 or plain fp8')}."
                    )


def tensors(
    files: Sequence[SafeFile], names: Collection[str], way_out: str, seen: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of a text encoder one by one, in their stored dtypes, and the factors of its fp8; `numbers` joins them.

    Args:
        files: which hold them, and whose memory they are.
        names: of the tensors.
        way_out: as in `require_floats`.
        seen: whether a tensor's numbers are asked for.

    Raises:
        CheckpointError: one that is seen is NaN or infinite, or quantised in another way than fp8 with a factor.
    """
    entries = {name: entry for file in files for name, entry in file.entries.items()}
    factors = {factor: name for name in names if seen(name) and (factor := _factor(entries, name))}
    for file in files:
        own = [name for name in file.entries if name in names or name in factors]
        plain = [name for name in own if seen(name) and name not in factors and name not in factors.values()]
        require_floats(file, plain, way_out)
        for factor in filter(factors.__contains__, own):
            shape, whole = entries[factor]["shape"], entries[factors[factor]]["shape"]
            if not _fits(shape, whole):
                raise CheckpointError(
                    f"{file.path}: {factor} has the shape {shape}, and a factor of {factors[factor]}, {whole}, is one "
                    f"number or one for each row; {way_out.format('fp16, bf16 or fp8')}."
                )
        for name, tensor in zip(own, file.mapped(own), strict=True):
            if name in factors or seen(name):
                require_finite(tensor, f"{file.path}: {name}")
            yield name, tensor


def numbers(stored: Mapping[str, torch.Tensor], dtype: torch.dtype | None = None) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors one by one, without factors: fp8 that has one, as fp8 times the factor in float32, rounded to `dtype`."""
    for name, tensor in stored.items():
        beside = (stored.get(f"{name.removesuffix('weight')}{end}") for end in FACTORS)
        factor = next((one for one in beside if one is not None), None) if name.endswith(".weight") else None
        if factor is not None and tensor.is_floating_point() and tensor.itemsize == 1:
            rows = factor.float().reshape(-1, *[1] * (tensor.ndim - 1))
            product = tensor.float().mul_(rows.to(tensor.device))
            yield name, product if dtype is None else product.to(dtype)
        elif not is_beside(name):
            yield name, tensor


def is_beside(name: str) -> bool:
    """Whether a tensor belongs to a quantised weight, and is none."""
    return name.rpartition(".")[2] in {*SCALES, *NOTES, *INPUTS, MARK}


def is_read(file: SafeFile) -> bool:
    """Whether the numbers of all weights can be told: plain ones, and fp8 with factors."""
    weights = [f"{module}.weight" for module in quantised(file)]
    found = [(_factor(file.entries, name), name) for name in weights]
    return all(one and _fits(file.entries[one]["shape"], file.entries[name]["shape"]) for one, name in found)


def _factor(entries: Mapping[str, dict[str, Any]], name: str) -> str | None:
    """The tensor with the factor of an fp8 weight, of any shape; None for a weight that has none, or needs more."""
    if not name.endswith(".weight") or not entries.get(name, {}).get("dtype", "").startswith("F8"):
        return None
    beside = [scale for end in SCALES if (scale := name.removesuffix("weight") + end) in entries]
    known = len(beside) == 1 and beside[0].endswith(FACTORS) and entries[beside[0]]["dtype"] in ITEMSIZES
    return beside[0] if known else None


def _fits(shape: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether a factor is one number, or one for each row of its weight."""
    rows = list(whole[:1])
    return math.prod(shape) == 1 or list(shape) in (rows, [*rows, *[1] * (len(whole) - 1)])


def convertible(file: SafeFile) -> set[str]:
    """The tensors that another dtype can hold: floats that are numbers of their own.

    Whatever belongs to a quantised weight stays as its kernels read it, packed numbers, factors and notes; a bias is a
    number of its own.
    """
    packed = quantised(file)
    return {
        name
        for name, entry in file.entries.items()
        if entry["dtype"] in ITEMSIZES
        and not name.endswith(MARK)
        and (_module(name) not in packed or name.endswith(".bias"))
    }


def quantised(file: SafeFile) -> set[str]:
    """The parts of a network whose weights are packed, or have factors or notes beside them."""
    modules: dict[str, set[str]] = {}
    for name in file.entries:
        module = _module(name)
        modules.setdefault(module, set()).add(name.removeprefix(f"{module}."))
    return {module for module, parts in modules.items() if _is_quantised(file, module, parts)}


def _module(name: str) -> str:
    """What a tensor is a part of: `x` of `x.weight`, `x.weight_scale`, `x.weight.absmax`, `x.scale_weight`."""
    return PART.sub("", name)


def _is_quantised(file: SafeFile, module: str, parts: set[str]) -> bool:
    packed = any(QUANTISED.search(f".{part}") for part in parts) or bool(parts & {*NOTES})
    if packed or "weight" not in parts:
        return packed
    return file.entries[f"{module}.weight"]["dtype"] not in ITEMSIZES or bool(parts & {*SCALES})
