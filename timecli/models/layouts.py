"""The table of tensor names: where a family of models reads text, and where its text encoders are.

A family is a row of streams, and its text encoders. A stream is what a network is given of a prompt, a sequence of
states or one vector, with the linear maps that read it, each in the two spellings that files use: that of single files
(latent diffusion, LDM), and that of diffusers. What a file is follows from the names and shapes that it has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from timecli.errors import CheckpointError
from timecli.models.streams import DIFFUSERS, ENTRY, LDM, MASK, POOLED, TEXT, Family, Matrix, Tower

Shapes = Mapping[str, tuple[int, ...]]

UNET_PREFIXES = (("model.diffusion_model.", LDM), ("", LDM), ("", DIFFUSERS))
"""How a UNet's names begin: in a whole single file, in a file with the UNet alone, and in diffusers' files."""
EMA_PREFIXES = ("model_ema.diffusion_model", "model_ema.")
"""How the name of a weight's moving average begins; the block's name follows without its dots."""

HF_MARK, OPENCLIP_MARK = "embeddings.token_embedding.weight", "token_embedding.weight"
"""The tensor that every text encoder has, in transformers' and in OpenCLIP's names."""

SD_BLOCKS = (
    # LDM, diffusers, transformer blocks: the 16 cross-attention layers of SD 1 and SD 2, from the input to the output
    ("input_blocks.1.1", "down_blocks.0.attentions.0", 1),
    ("input_blocks.2.1", "down_blocks.0.attentions.1", 1),
    ("input_blocks.4.1", "down_blocks.1.attentions.0", 1),
    ("input_blocks.5.1", "down_blocks.1.attentions.1", 1),
    ("input_blocks.7.1", "down_blocks.2.attentions.0", 1),
    ("input_blocks.8.1", "down_blocks.2.attentions.1", 1),
    ("middle_block.1", "mid_block.attentions.0", 1),
    ("output_blocks.3.1", "up_blocks.1.attentions.0", 1),
    ("output_blocks.4.1", "up_blocks.1.attentions.1", 1),
    ("output_blocks.5.1", "up_blocks.1.attentions.2", 1),
    ("output_blocks.6.1", "up_blocks.2.attentions.0", 1),
    ("output_blocks.7.1", "up_blocks.2.attentions.1", 1),
    ("output_blocks.8.1", "up_blocks.2.attentions.2", 1),
    ("output_blocks.9.1", "up_blocks.3.attentions.0", 1),
    ("output_blocks.10.1", "up_blocks.3.attentions.1", 1),
    ("output_blocks.11.1", "up_blocks.3.attentions.2", 1),
)
SDXL_BLOCKS = (
    ("input_blocks.4.1", "down_blocks.1.attentions.0", 2),
    ("input_blocks.5.1", "down_blocks.1.attentions.1", 2),
    ("input_blocks.7.1", "down_blocks.2.attentions.0", 10),
    ("input_blocks.8.1", "down_blocks.2.attentions.1", 10),
    ("middle_block.1", "mid_block.attentions.0", 10),
    ("output_blocks.0.1", "up_blocks.0.attentions.0", 10),
    ("output_blocks.1.1", "up_blocks.0.attentions.1", 10),
    ("output_blocks.2.1", "up_blocks.0.attentions.2", 10),
    ("output_blocks.3.1", "up_blocks.1.attentions.0", 2),
    ("output_blocks.4.1", "up_blocks.1.attentions.1", 2),
    ("output_blocks.5.1", "up_blocks.1.attentions.2", 2),
)


def _matrices(blocks: tuple[tuple[str, str, int], ...]) -> tuple[Matrix, ...]:
    layers = [(ldm, diffusers, depth) for ldm, diffusers, count in blocks for depth in range(count)]
    return tuple(
        Matrix(i, kind, (_name(ldm, depth, kind), _name(diffusers, depth, kind)))
        for i, (ldm, diffusers, depth) in enumerate(layers)
        for kind in "kv"
    )


def _name(block: str, depth: int, kind: str) -> str:
    return f"{block}.transformer_blocks.{depth}.attn2.to_{kind}.weight"


SD1 = Family(
    "Stable Diffusion 1.x",
    "stable-diffusion-v1",
    _matrices(SD_BLOCKS),
    # Files made by some tools lack `text_model.`.
    (
        Tower(
            "text_encoder",
            "CLIP ViT-L",
            768,
            ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."),
        ),
    ),
)
SD2 = Family(
    "Stable Diffusion 2.x",
    "stable-diffusion-v2",
    SD1.matrices,
    (
        Tower(
            "text_encoder",
            "OpenCLIP ViT-H",
            1024,
            ("cond_stage_model.model.", "conditioner.embedders.0.model."),
            openclip=True,
            padding=0,
            blocks=23,  # of 24; a file that was converted back from diffusers has no more than these
        ),
    ),
)
SDXL = Family(
    "Stable Diffusion XL",
    "stable-diffusion-xl-v1-base",
    (
        *_matrices(SDXL_BLOCKS),
        Matrix(0, ENTRY, ("label_emb.0.0.weight", "add_embedding.linear_1.weight"), POOLED, leading=True),
    ),
    (
        Tower(
            "text_encoder", "CLIP ViT-L", 768, ("conditioner.embedders.0.transformer.text_model.",), penultimate=True
        ),
        Tower(
            "text_encoder_2",
            "OpenCLIP ViT-bigG",
            1280,
            ("conditioner.embedders.1.model.",),
            openclip=True,
            penultimate=True,
            padding=0,
            pooled=True,
        ),
    ),
    kohya=LDM,
    pipeline="StableDiffusionXLPipeline",
)
SD2_WIDTH = 1024
"""Text width of SD 2, whose UNet has the names of SD 1."""


def _transformer(
    name: str,
    short: str,
    pipeline: str,
    maps: tuple[Matrix, ...],
    marks: tuple[str, str],
    towers: tuple[Tower, ...],
    outputs: dict[str, int],
    sequence: tuple[str, ...] = ("text_encoder",),
    norm: tuple[str, float] | None = None,
) -> Family:
    """A family of diffusion transformers: text enters by one map for each stream, before anything else."""
    return Family(
        name, short, maps, towers, LDM, pipeline, "transformer", marks, tuple(outputs.items()), sequence, norm
    )


def _entry(ldm: str, diffusers: str, stream: str = TEXT) -> Matrix:
    return Matrix(0, ENTRY, (f"{ldm}.weight", f"{diffusers}.weight"), stream)


CLIP_L = Tower("text_encoder", "CLIP ViT-L", 768, ("text_encoders.clip_l.transformer.",), model="CLIPTextModel")
T5 = Tower("text_encoder", "T5-XXL", 4096, ("text_encoders.t5xxl.transformer.",), model="T5EncoderModel")
POOLED_MAP = "time_text_embed.text_embedder.linear_1"
FLUX2_MARKS = ("double_stream_modulation_img.lin.weight", "double_stream_modulation_img.linear.weight")

SD3 = _transformer(
    "Stable Diffusion 3", "stable-diffusion-v3", "StableDiffusion3Pipeline",
    (_entry("context_embedder", "context_embedder"), _entry("y_embedder.mlp.0", POOLED_MAP, POOLED)),
    ("joint_blocks.0.context_block.attn.qkv.weight", "pos_embed.proj.weight"),
    (
        replace(CLIP_L, model="CLIPTextModelWithProjection"),
        Tower(
            "text_encoder_2", "OpenCLIP ViT-bigG", 1280, ("text_encoders.clip_g.transformer.",),
            model="CLIPTextModelWithProjection",
        ),
        replace(T5, folder="text_encoder_3"),
    ),
    {TEXT: 0, POOLED: 2},
    ("text_encoder", "text_encoder_3"),
)  # fmt: skip
FLUX1 = _transformer(
    "FLUX.1", "flux-1-dev", "FluxPipeline",
    (_entry("txt_in", "context_embedder"), _entry("vector_in.in_layer", POOLED_MAP, POOLED)),
    ("double_blocks.0.img_attn.qkv.weight", "x_embedder.weight"),
    (CLIP_L, replace(T5, folder="text_encoder_2")),
    {TEXT: 0, POOLED: 1},
    ("text_encoder_2",),
)  # fmt: skip
CHROMA = _transformer(
    "Chroma", "chroma", "ChromaPipeline", (_entry("txt_in", "context_embedder"),),
    ("distilled_guidance_layer.in_proj.weight", "distilled_guidance_layer.in_proj.weight"), (T5,),
    {TEXT: 0, MASK: 2},
)  # fmt: skip
FLUX2_DEV = _transformer(
    "FLUX.2 dev", "flux-2-dev", "Flux2Pipeline", (_entry("txt_in", "context_embedder"),), FLUX2_MARKS,
    (
        Tower(
            "text_encoder", "Mistral Small 3", 15360, ("text_encoders.mistral3_24b.transformer.",),
            model="Mistral3ForConditionalGeneration", inner="language_model.",
        ),
    ),
    {TEXT: 0},
)  # fmt: skip
KLEIN = replace(
    FLUX2_DEV, name="FLUX.2 klein", short="flux-2-klein", pipeline="Flux2KleinPipeline",
    towers=(
        Tower(
            "text_encoder", "Qwen3", 7680,
            ("text_encoders.qwen3_4b.transformer.", "text_encoders.qwen3_8b.transformer."), model="Qwen3ForCausalLM",
        ),
    ),
)  # fmt: skip
FLUX2 = replace(FLUX2_DEV, kinds=(KLEIN,))
QWEN_IMAGE = _transformer(
    "Qwen-Image", "qwen-image", "QwenImagePipeline", (_entry("txt_in", "txt_in"),),
    ("transformer_blocks.0.img_mod.1.weight",) * 2,
    (
        Tower(
            "text_encoder", "Qwen2.5-VL 7B", 3584, ("text_encoders.qwen25_7b.transformer.",),
            model="Qwen2_5_VLForConditionalGeneration",
        ),
    ),
    {TEXT: 0},
    norm=("txt_norm.weight", 1e-6),
)  # fmt: skip
Z_IMAGE = _transformer(
    "Z-Image", "z-image", "ZImagePipeline", (_entry("cap_embedder.1", "cap_embedder.1"),), ("cap_pad_token",) * 2,
    (Tower("text_encoder", "Qwen3 4B", 2560, ("text_encoders.qwen3_4b.transformer.",), model="Qwen3Model"),),
    {TEXT: 0}, norm=("cap_embedder.0.weight", 1e-5),
)  # fmt: skip
TRANSFORMERS = (CHROMA, SD3, FLUX1, FLUX2, QWEN_IMAGE, Z_IMAGE)
"""Families by their marks. FLUX.2's two kinds have the same names; the config says which a model is."""


MODELS = "an SD 1.x, SD 2.x, SDXL, SD 3, FLUX, Chroma, Qwen-Image or Z-Image base model"
"""What is edited here."""
FOREIGN = {
    # the end of a tensor's name that only this kind of model has -> what it is
    "input_blocks.4.1.transformer_blocks.3.attn2.to_k.weight": "an SDXL refiner",
    "down_blocks.1.attentions.0.transformer_blocks.3.attn2.to_k.weight": "an SDXL refiner",
    ".lora_up.weight": "a LoRA, not a model",
    ".lora_B.weight": "a LoRA, not a model",
    "_attn2_to_k.diff": "a LoRA, not a model",
    "encoder_hid_proj.weight": "a Kolors model",
    "caption_projection.0.linear.weight": "a HiDream model",
    "head.modulation": "a Wan model",
    "condition_embedder.text_embedder.linear_1.weight": "a Wan model",
    "attention_y_norm.weight": "a Sana model",
    "caption_norm.weight": "a Sana model",
    "patchify_proj.weight": "an LTX model",
    "time_embed.linear.weight": "an LTX model",  # behind Sana, which has it, too
    "y_embedder.y_proj.fc1.weight": "a PixArt model",
    "adaln_single.linear.weight": "a PixArt model",
    "layers.0.adaLN_modulation.1.weight": "a Lumina 2 model",
    "time_caption_embed.caption_embedder.1.weight": "a Lumina 2 model",
    "register_tokens": "an AuraFlow model",
    "txt_in.input_embedder.weight": "a Hunyuan model",
    "context_embedder.proj_in.weight": "a Hunyuan model",
    "text_embedding_padding": "a Hunyuan-DiT model",
    "cross_attn.k_proj.weight": "a Cosmos or Anima model",
    "txt_in.text_norm.weight": "a Qwen-Image 2 model",
    "context_embedder_norm.weight": "an Ovis-Image model",
    "early_stream_modulations.image.lin.weight": "a FLUX.3 model",
    "early_stream_modulations.image.linear.weight": "a FLUX.3 model",
    "txtfusion.projector.weight": "a Krea 2 model",
    "text_fusion.projector.weight": "a Krea 2 model",
    "pooled_text_embeddings.in_layer.weight": "a Kandinsky model",
}


def find(shapes: Shapes, where: str) -> tuple[Family, str, int]:
    """What a network with tensors of these names and shapes is: family, prefix of its names, spelling.

    Raises:
        CheckpointError: it is another kind of model, or not complete; the sentence says which and what is missing.
    """
    for mark, kind in FOREIGN.items():
        if any(name.endswith(mark) for name in shapes):
            raise CheckpointError(f"{where} is {kind}, which has no edit of this kind here; use {MODELS}.")
    tried = [(family, prefix, spelling) for prefix, spelling in UNET_PREFIXES for family in (SDXL, SD1)]
    marked = [(f, prefix, s) for prefix, s in UNET_PREFIXES for f in TRANSFORMERS if prefix + f.marks[s] in shapes]
    tried = marked or tried
    family, prefix, spelling = min(tried, key=lambda row: len(_missing(shapes, *row)))
    missing = _missing(shapes, family, prefix, spelling)
    if len(missing) == len(family.matrices):
        raise CheckpointError(
            f"{where} has no map that reads text ({missing[0]} and {len(missing) - 1} more are missing); use {MODELS}."
        )
    if missing:
        raise CheckpointError(
            f"{where} has {len(family.matrices) - len(missing)} of the {len(family.matrices)} maps that read text in "
            f"{family.name} ({missing[0]} is missing); the file is incomplete, or another kind of model."
        )
    width = shapes[prefix + family.matrices[0].names[spelling]][-1]
    openclip = any(prefix + OPENCLIP_MARK in shapes for tower in SD2.towers for prefix in tower.prefixes)
    if family is SD1 and (width == SD2_WIDTH or openclip):
        family = SD2
    return family, prefix, spelling


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
