"""The table of tensor names: where a family of models reads text, and where its text encoders are.

A family is a row of streams, and its text encoders. A stream is what a network is given of a prompt, a sequence of
states or one vector, with the linear maps that read it, each in the two spellings that files use: that of single files
(latent diffusion, LDM), and that of diffusers. What a file is follows from the names and shapes that it has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from timecli.errors import CheckpointError
from timecli.models import others
from timecli.models.streams import DIFFUSERS, ENTRY, LDM, MASK, POOLED, TEXT, Family, Matrix, Tower

Shapes = Mapping[str, tuple[int, ...]]

UNET_PREFIXES = (
    ("model.diffusion_model.", LDM), ("", LDM), ("", DIFFUSERS), ("diffusion_model.", LDM), ("model.", LDM),
    ("unet.", DIFFUSERS), ("transformer.", DIFFUSERS),
)  # fmt: skip
"""How a network's names begin: in a whole single file, in a file with the network alone, in diffusers' files, and as
programs write it that keep the name of the part."""
TEXTS = ("text_encoders.", "cond_stage_model.", "")
"""What stands before the text encoders of a diffusion transformer in a single file as ComfyUI saves its family, and in
a file of text encoders alone."""
EMA_PREFIXES = ("model_ema.diffusion_model", "model_ema.")
"""How the name of a weight's moving average begins; the block's name follows without its dots."""

HF_MARK, OPENCLIP_MARK = "embeddings.token_embedding.weight", "token_embedding.weight"
"""The tensor that every text encoder has, in transformers' and in OpenCLIP's names."""


def _attention(down: tuple[int, ...], middle: int) -> tuple[Matrix, ...]:
    """Keys and values of a UNet's cross-attention, from the input to the output.

    Every level has two attentions on the way down and three on the way up, each of as many transformer blocks as `down`
    says from the finest level on. Single files count a level's downsampling, too.
    """
    blocks = [
        (f"input_blocks.{3 * i + j + 1}.1", f"down_blocks.{i}.attentions.{j}", n)
        for i, n in enumerate(down)
        for j in (0, 1)
    ]
    blocks += [("middle_block.1", "mid_block.attentions.0", middle)]
    blocks += [
        (f"output_blocks.{3 * i + j}.1", f"up_blocks.{i}.attentions.{j}", n)
        for i, n in enumerate(reversed(down))
        for j in (0, 1, 2)
    ]
    layers = [(ldm, diffusers, f"transformer_blocks.{i}.attn2.to_") for ldm, diffusers, n in blocks for i in range(n)]
    return tuple(
        Matrix(layer, kind, (f"{ldm}.{inner}{kind}.weight", f"{diffusers}.{inner}{kind}.weight"))
        for layer, (ldm, diffusers, inner) in enumerate(layers)
        for kind in "kv"
    )


def _entry(ldm: str, diffusers: str, stream: str = TEXT, leading: bool = False) -> Matrix:
    return Matrix(0, ENTRY, (f"{ldm}.weight", f"{diffusers}.weight"), stream, leading)


def _inside(*names: str) -> tuple[str, ...]:
    """Prefixes of a text encoder in a diffusion transformer's single file."""
    return tuple(f"{texts}{name}.transformer." for texts in TEXTS for name in names)


# fmt: off
CLIP_L = Tower(
    "text_encoder", "CLIP ViT-L", 768,
    ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."),  # some tools leave `text_model.` out
)
OPENCLIP_H = Tower(
    "text_encoder", "OpenCLIP ViT-H", 1024, ("cond_stage_model.model.", "conditioner.embedders.0.model."),
    openclip=True, padding=0, blocks=23,  # of 24; a file that was converted back from diffusers has no more than these
)
OPENCLIP_G = Tower(
    "text_encoder_2", "OpenCLIP ViT-bigG", 1280, ("conditioner.embedders.1.model.",), openclip=True, penultimate=True,
    padding=0, pooled=True,
)
SD1 = Family("Stable Diffusion 1.x", "stable-diffusion-v1", _attention((1, 1, 1, 0), 1), (CLIP_L,), kohya=DIFFUSERS)
SD2 = replace(SD1, name="Stable Diffusion 2.x", short="", towers=(OPENCLIP_H,))
SDXL = Family(
    "Stable Diffusion XL", "stable-diffusion-xl-v1-base",
    (*_attention((0, 2, 10), 10), _entry("label_emb.0.0", "add_embedding.linear_1", POOLED, leading=True)),
    (replace(CLIP_L, prefixes=tuple(p.replace("cond_stage_model", "conditioner.embedders.0") for p in CLIP_L.prefixes),
             penultimate=True), OPENCLIP_G),
    "StableDiffusionXLPipeline",
)
SD2_WIDTH = 1024
"""Text width of SD 2, whose UNet has the names of SD 1."""

CLIP = Tower("text_encoder", "CLIP ViT-L", 768, _inside("clip_l"), model="CLIPTextModel")
T5 = Tower("text_encoder", "T5-XXL", 4096, _inside("t5xxl"), model="T5EncoderModel")
CLIP_G = Tower("text_encoder_2", "OpenCLIP ViT-bigG", 1280, _inside("clip_g"), model="CLIPTextModelWithProjection")
MISTRAL = Tower(
    "text_encoder", "Mistral Small 3", 15360, _inside("mistral3_24b"), model="Mistral3ForConditionalGeneration",
    inner="language_model.", layers=30,
)
QWEN3 = Tower("text_encoder", "Qwen3", 7680, _inside("qwen3_4b", "qwen3_8b"), model="Qwen3ForCausalLM", layers=27)
QWEN3_4B = Tower("text_encoder", "Qwen3 4B", 2560, _inside("qwen3_4b"), model="Qwen3Model", layers=-1)
QWEN_VL = Tower("text_encoder", "Qwen2.5-VL 7B", 3584, _inside("qwen25_7b"), model="Qwen2_5_VLForConditionalGeneration")
VECTOR = "time_text_embed.text_embedder.linear_1"

SD3 = Family(
    "Stable Diffusion 3", "",
    (_entry("context_embedder", "context_embedder"), _entry("y_embedder.mlp.0", VECTOR, POOLED)),
    (replace(CLIP, model=CLIP_G.model, identity=True), CLIP_G, replace(T5, folder="text_encoder_3", optional=True)),
    "StableDiffusion3Pipeline",
    ("joint_blocks.0.context_block.attn.qkv.weight", "pos_embed.proj.weight"), ((TEXT, 0), (POOLED, 2)),
    adapter="peft", sequence=("text_encoder", "text_encoder_3"),
)
FLUX1 = Family(
    "FLUX.1", "",
    (_entry("txt_in", "context_embedder"), _entry("vector_in.in_layer", VECTOR, POOLED)),
    (CLIP, replace(T5, folder="text_encoder_2")), "FluxPipeline",
    ("double_blocks.0.img_attn.qkv.weight", "x_embedder.weight"), ((TEXT, 0), (POOLED, 1)),
    adapter="peft", sequence=("text_encoder_2",),
)
CHROMA = Family(
    "Chroma", "", (_entry("txt_in", "context_embedder"),), (T5,), "ChromaPipeline",
    ("distilled_guidance_layer.in_proj.weight",) * 2, ((TEXT, 0), (MASK, 2)), adapter="peft",
)
FLUX2_DEV = Family(
    "FLUX.2 dev", "", (_entry("txt_in", "context_embedder"),), (MISTRAL,), "Flux2Pipeline",
    ("double_stream_modulation_img.lin.weight", "double_stream_modulation_img.linear.weight"),
)
KLEIN = replace(FLUX2_DEV, name="FLUX.2 klein", towers=(QWEN3,), pipeline="Flux2KleinPipeline")
FLUX2 = replace(FLUX2_DEV, kinds=(KLEIN,))
QWEN_IMAGE = Family(
    "Qwen-Image", "", (_entry("txt_in", "txt_in"),), (QWEN_VL,), "QwenImagePipeline",
    ("transformer_blocks.0.img_mod.1.weight",) * 2, norm=("txt_norm.weight", 1e-6),
)
Z_IMAGE = Family(
    "Z-Image", "", (_entry("cap_embedder.1", "cap_embedder.1"),), (QWEN3_4B,), "ZImagePipeline",
    ("cap_pad_token",) * 2, norm=("cap_embedder.0.weight", 1e-5),
)
# fmt: on
TRANSFORMERS = (CHROMA, SD3, FLUX1, FLUX2, QWEN_IMAGE, Z_IMAGE)
"""Families by their marks. FLUX.2's two kinds have the same names; the config says which a model is."""


def find(shapes: Shapes, where: str) -> tuple[Family, str, int]:
    """What a network with tensors of these names and shapes is: family, prefix of its names, spelling.

    Raises:
        CheckpointError: it is another kind of model, or not complete; the sentence says which and what is missing.
    """
    if kind := others.model(shapes):
        raise CheckpointError(f"{where} is {kind}, which has no edit of this kind here; use {others.MODELS}.")
    tried = [(family, prefix, spelling) for prefix, spelling in UNET_PREFIXES for family in (SDXL, SD1)]
    marked = [(f, prefix, s) for prefix, s in UNET_PREFIXES for f in TRANSFORMERS if prefix + f.marks[s] in shapes]
    family, prefix, spelling = min(marked or tried, key=lambda row: _distance(shapes, *row))
    missing = _missing(shapes, family, prefix, spelling)
    if missing and (elsewhere := _elsewhere(shapes)):
        (family, prefix, spelling), missing = elsewhere, []
    if missing and (packed := others.packed(shapes, missing)):
        raise CheckpointError(
            f"{where} is quantised, and has packed numbers in place of a map that reads text ({packed}); edit the "
            "model that it was made from, or export a LoRA for that."
        )
    if len(missing) == len(family.matrices):
        kind, more = others.alone(shapes), f"({missing[0]} and {len(missing) - 1} more are missing)"
        found = f"is {kind}" if kind else f"has no map that reads text {more}"
        raise CheckpointError(f"{where} {found}; use {others.MODELS}.")
    if missing:
        raise CheckpointError(
            f"{where} has {len(family.matrices) - len(missing)} of the {len(family.matrices)} maps that read text in "
            f"{family.name} ({missing[0]} is missing); the file is incomplete, or {others.relative(family.name)}."
        )
    width = shapes[prefix + family.matrices[0].names[spelling]][-1]
    openclip = any(prefix + OPENCLIP_MARK in shapes for tower in SD2.towers for prefix in tower.prefixes)
    if family is SD1 and (width == SD2_WIDTH or openclip):
        family = SD2
    return family, prefix, spelling


def _elsewhere(shapes: Shapes) -> tuple[Family, str, int] | None:
    """A whole network behind a prefix that is not in the table, as programs write it that wrap a network."""
    for family in (SDXL, SD1, *TRANSFORMERS):
        for spelling in (LDM, DIFFUSERS):
            first = family.matrices[0].names[spelling]
            for prefix in (name.removesuffix(first) for name in shapes if name.endswith(f".{first}")):
                marked = not family.marks or prefix + family.marks[spelling] in shapes
                if marked and not _missing(shapes, family, prefix, spelling):
                    return family, prefix, spelling
    return None


def _distance(shapes: Shapes, family: Family, prefix: str, spelling: int) -> tuple[int, int]:
    """How little a file is like a family: first by what it has of it, then by what it has not."""
    named = sum(prefix + matrix.names[spelling] in shapes for matrix in family.matrices)
    return -named, len(family.matrices) - named


def _missing(shapes: Shapes, family: Family, prefix: str, spelling: int) -> list[str]:
    """Matrices that are not there; of two names that both begin right, a matrix has two dimensions."""
    names = [prefix + matrix.names[spelling] for matrix in family.matrices]
    return [name for name in names if len(shapes.get(name, ())) != 2]


def twins(matrix: Matrix) -> tuple[str, ...]:
    """Names that the matrix's moving average can have in a single file."""
    return tuple(prefix + matrix.names[LDM].replace(".", "") for prefix in EMA_PREFIXES)


def tower_prefix(names: Collection[str], tower: Tower) -> str | None:
    """What stands before a text encoder's tensor names in a single file; None where it has no such text encoder."""
    mark = OPENCLIP_MARK if tower.openclip else HF_MARK
    return next((prefix for prefix in tower.prefixes if prefix + mark in names), None)
