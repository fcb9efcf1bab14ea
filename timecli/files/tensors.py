"""Tensors as files have them: dtypes and their names, and how numbers are rounded to them."""

from __future__ import annotations

import torch

from timecli.errors import CheckpointError
from timecli.files.safefile import plain

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
"""What an output can be converted to, by the names that options have for it."""
FP8 = {torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"}
SAFETENSORS_NAMES = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    **FP8,
}


def rounding(tensor: torch.Tensor) -> torch.Tensor:
    """How far, in the mean square, each number is off from the one that was rounded to it: ε |w| / 5, in float64."""
    limits = torch.finfo(tensor.dtype)
    return plain(tensor).double().abs().clamp(min=limits.smallest_normal) * (limits.eps / 5)


def convert(tensor: torch.Tensor, dtype: torch.dtype | None, where: str) -> torch.Tensor:
    """`tensor` in `dtype`, rounded to nearest. Raises CheckpointError when a finite value does not fit."""
    result = tensor.to(dtype or tensor.dtype)
    finite = torch.isfinite(plain(tensor))
    # torch cuts what is too large for fp8 off at its largest number.
    large = plain(tensor).abs() > torch.finfo(result.dtype).max if result.dtype in FP8 else ~torch.isfinite(result)
    if (finite & large).any():
        raise CheckpointError(
            f"{where} does not fit into {str(result.dtype).removeprefix('torch.')}; use --dtype fp32 or bf16."
        )
    return result


def raw(tensor: torch.Tensor) -> memoryview:
    """A tensor's bytes, without a copy where it is in memory as in a file."""
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
