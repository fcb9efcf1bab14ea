"""The table of tensor names: which tensors are keys and values of cross-attention, where the text encoder is.

One row per block of a family, each in the two spellings that files use: the original one of latent diffusion (LDM;
single files) and that of diffusers (folders). The part behind the block is the same in both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from timecli.errors import CheckpointError

SD1_BLOCKS = (
    # LDM, diffusers: the 16 cross-attention layers from the input to the output
    ("input_blocks.1.1", "down_blocks.0.attentions.0"),
    ("input_blocks.2.1", "down_blocks.0.attentions.1"),
    ("input_blocks.4.1", "down_blocks.1.attentions.0"),
    ("input_blocks.5.1", "down_blocks.1.attentions.1"),
    ("input_blocks.7.1", "down_blocks.2.attentions.0"),
    ("input_blocks.8.1", "down_blocks.2.attentions.1"),
    ("middle_block.1", "mid_block.attentions.0"),
    ("output_blocks.3.1", "up_blocks.1.attentions.0"),
    ("output_blocks.4.1", "up_blocks.1.attentions.1"),
    ("output_blocks.5.1", "up_blocks.1.attentions.2"),
    ("output_blocks.6.1", "up_blocks.2.attentions.0"),
    ("output_blocks.7.1", "up_blocks.2.attentions.1"),
    ("output_blocks.8.1", "up_blocks.2.attentions.2"),
    ("output_blocks.9.1", "up_blocks.3.attentions.0"),
    ("output_blocks.10.1", "up_blocks.3.attentions.1"),
    ("output_blocks.11.1", "up_blocks.3.attentions.2"),
)
LDM, DIFFUSERS = 0, 1
UNET_PREFIX = ("model.diffusion_model.", "")
TEXT_PREFIXES = (
    ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."),
    ("text_model.", ""),
)
"""The text encoder's prefix per spelling, the usual one first; files made by some tools lack `text_model.`."""
TEXT_MARK = "embeddings.token_embedding.weight"

FOREIGN = {
    # a tensor that only this family has -> what the model is
    "conditioner.embedders.1.model.ln_final.weight": "SDXL",
    "conditioner.embedders.0.model.ln_final.weight": "an SDXL refiner, or SD 2 in SGM spelling",
    "cond_stage_model.model.ln_final.weight": "SD 2",
    "add_embedding.linear_1.weight": "SDXL",
    "model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight": "SD 3",
    "transformer_blocks.0.attn.add_k_proj.weight": "SD 3 or FLUX",
    "double_blocks.0.img_attn.qkv.weight": "FLUX",
    "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": "FLUX",
}
FOREIGN_WIDTHS = {1024: "SD 2", 2048: "SDXL"}
"""Text widths of other families; SD 2 has SD 1's tensor names."""


@dataclass(frozen=True)
class Matrix:
    """One cross-attention projection: its layer (0..15 in SD 1), "k" or "v", and its name in both spellings."""

    layer: int
    kind: str
    names: tuple[str, str]


def _names(layer: int, kind: str) -> tuple[str, str]:
    ldm, diffusers = (
        f"{UNET_PREFIX[spelling]}{SD1_BLOCKS[layer][spelling]}.transformer_blocks.0.attn2.to_{kind}.weight"
        for spelling in (LDM, DIFFUSERS)
    )
    return ldm, diffusers


SD1 = tuple(Matrix(layer, kind, _names(layer, kind)) for layer in range(len(SD1_BLOCKS)) for kind in "kv")
"""The 32 matrices of Stable Diffusion 1.x."""


def matrices(shapes: Mapping[str, tuple[int, ...]], spelling: int, where: str) -> tuple[Matrix, ...]:
    """The matrices of a model that has tensors of these names and shapes.

    Raises:
        CheckpointError: it is another kind of model, or not complete; the sentence says which and what is missing.
    """
    missing = [matrix.names[spelling] for matrix in SD1 if matrix.names[spelling] not in shapes]
    width = None if missing else shapes[SD1[0].names[spelling]][-1]
    other = next((kind for mark, kind in FOREIGN.items() if mark in shapes), FOREIGN_WIDTHS.get(width or 0))
    if other:
        raise CheckpointError(f"{where} is {other}, which is not supported; use a Stable Diffusion 1.x model.")
    if not missing:
        return SD1
    found = len(SD1) - len(missing)
    seems = "the file is incomplete" if found else "it does not seem to be a Stable Diffusion 1.x model"
    raise CheckpointError(
        f"{where} has {found} of the {len(SD1)} cross-attention matrices ({missing[0]} is missing); {seems}."
    )


def text_prefix(names: Collection[str], spelling: int, where: str) -> str:
    """What stands before the text encoder's tensor names.

    Raises:
        CheckpointError: there is no text encoder.
    """
    for prefix in TEXT_PREFIXES[spelling]:
        if prefix + TEXT_MARK in names:
            return prefix
    raise CheckpointError(
        f"{where} has no text encoder ({TEXT_PREFIXES[spelling][0]}{TEXT_MARK} is missing); use a complete model."
    )
