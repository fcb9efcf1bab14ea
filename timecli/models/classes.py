"""Pipelines of diffusers whose text is made as that of a family's own: an edit that is compiled by the one is for both.

Others have templates of their own, or a picture in place of the text. diffusers' own `encode_prompt` proves the table.
"""

from __future__ import annotations

from pathlib import Path

from timecli.errors import CheckpointError
from timecli.files.code import INDEX
from timecli.files.foreign import read_config
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


def of_config(family: Family, config: Path | None, width: int, compiled: bool) -> Family:
    """The kind of a family that a folder says it is, or else its width: kinds differ in their text encoders alone.

    Raises:
        CheckpointError: the text is `compiled`, and the pipeline that the folder names makes another.
    """
    index = config / INDEX if config is not None else None
    said = read_config(index).get("_class_name") if index is not None else None
    found = _of_class(family, said) if isinstance(said, str) else None
    if found is None and compiled and isinstance(said, str):
        _refuse(family, said, str(index))
    by_width = family if not family.kinds or width == family.towers[0].width else family.kinds[0]
    return found or by_width


def _of_class(family: Family, name: str) -> Family | None:
    """The family, or that of its kinds, whose text a pipeline's class makes; None where it makes another."""
    kinds = (family, *family.kinds)
    return next((one for one in kinds if name == one.pipeline or name in SAME_TEXT.get(one.pipeline, ())), None)


def _refuse(family: Family, name: str, index: str) -> None:
    """Refuse a folder whose pipeline makes its text in another way."""
    own = " or ".join(one.pipeline for one in (family, *family.kinds))
    raise CheckpointError(
        f"{index} says {name}, and the network is {family.name}: an edit is compiled of the text that {own} makes, "
        f"which is not known to be that of {name}; give the folder of a text-to-image model."
    )
