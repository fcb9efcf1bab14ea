"""Pipelines of diffusers whose text is made as that of a family's own: an edit that is compiled by the one is for both.

Others have templates of their own, or a picture in place of the text. diffusers' own `encode_prompt` proves the table.
"""

from __future__ import annotations

from timecli.errors import CheckpointError
from timecli.models.streams import Family


def _named(start: str, middles: str) -> tuple[str, ...]:
    return tuple(f"{start}{middle}Pipeline" for middle in middles.split())


SAME_TEXT = {
    # a family's own class -> others
    "StableDiffusionPipeline": (
        *_named(
            "StableDiffusion",
            "Img2Img Inpaint ControlNet ControlNetImg2Img ControlNetInpaint ControlNetXS ControlNetPAG "
            "ControlNetPAGInpaint PAG PAGImg2Img PAGInpaint Adapter AttendAndExcite Depth2Img DiffEdit GLIGEN "
            "GLIGENTextImage InstructPix2Pix LDM3D ModelEditing Panorama Paradigms Pix2PixZero SAG Upscale",
        ),
        *_named("LatentConsistencyModel", "Img2Img"), "LatentConsistencyModelPipeline",
        "StableUnCLIPPipeline", "StableUnCLIPImg2ImgPipeline", "CycleDiffusionPipeline", "TextToVideoZeroPipeline",
    ),
    "StableDiffusionXLPipeline": (
        *_named(
            "StableDiffusionXL",
            "Img2Img Inpaint InstructPix2Pix ControlNet ControlNetImg2Img ControlNetInpaint ControlNetUnion "
            "ControlNetUnionImg2Img ControlNetUnionInpaint ControlNetXS ControlNetPAG ControlNetPAGImg2Img Adapter PAG "
            "PAGImg2Img PAGInpaint",
        ),
        "TextToVideoZeroSDXLPipeline",
    ),
    "StableDiffusion3Pipeline": _named(
        "StableDiffusion3", "Img2Img Inpaint ControlNet ControlNetInpainting PAG PAGImg2Img"
    ),
    "FluxPipeline": _named(
        "Flux",
        "Img2Img Inpaint Fill Control ControlImg2Img ControlInpaint ControlNet ControlNetImg2Img ControlNetInpaint "
        "Kontext KontextInpaint",
    ),
    "ChromaPipeline": _named("Chroma", "Img2Img"),
    "Flux2KleinPipeline": _named("Flux2Klein", "Inpaint KV"),
    "QwenImagePipeline": _named("QwenImage", "Img2Img Inpaint ControlNet ControlNetInpaint Layered"),
    "ZImagePipeline": _named("ZImage", "Img2Img Inpaint ControlNet ControlNetInpaint"),
}  # fmt: skip


def of_class(family: Family, name: str) -> Family | None:
    """The family, or that of its kinds, whose text a pipeline's class makes; None where it makes another."""
    kinds = (family, *family.kinds)
    return next((one for one in kinds if name == one.pipeline or name in SAME_TEXT.get(one.pipeline, ())), None)


def refuse(family: Family, name: str, index: str) -> None:
    """Refuse a folder whose pipeline makes its text in another way."""
    own = " or ".join(one.pipeline for one in (family, *family.kinds))
    raise CheckpointError(
        f"{index} says {name}, and the network is {family.name}: an edit is compiled of the text that {own} makes, "
        f"which is not known to be that of {name}; give the folder of a text-to-image model."
    )
