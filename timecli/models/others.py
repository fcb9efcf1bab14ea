"""What a file is that is no model that is edited here, or no model at all, told by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from timecli.files.quantised import QUANTISED

MODELS = "an SD 1.x, SD 2.x, SDXL, SD 3, FLUX, Chroma, Qwen-Image or Z-Image base model"
"""What is edited here."""
FOREIGN = {
    # what a model is, by how the name of a tensor ends; in this order, since Sana has LTX's second, LTX PixArt's, and
    # HiDream FIBO's
    "an SDXL refiner": (
        "input_blocks.4.1.transformer_blocks.3.attn2.to_k.weight",
        "down_blocks.1.attentions.0.transformer_blocks.3.attn2.to_k.weight",
    ),
    "a Kolors model": ("encoder_hid_proj.weight",),
    "a HiDream model": ("double_stream_blocks.0.block.adaLN_modulation.1.weight",),
    "a Wan model": ("head.modulation", "condition_embedder.text_embedder.linear_1.weight"),
    "a Sana model": ("attention_y_norm.weight", "caption_norm.weight"),
    "an LTX model": ("patchify_proj.weight", "time_embed.linear.weight"),
    "a PixArt model": ("y_embedder.y_proj.fc1.weight", "adaln_single.linear.weight"),
    "a Lumina 2 model": ("layers.0.adaLN_modulation.1.weight", "time_caption_embed.caption_embedder.1.weight"),
    "an AuraFlow model": ("register_tokens",),
    "a Hunyuan model": ("txt_in.input_embedder.weight", "context_embedder.proj_in.weight"),
    "a Hunyuan-DiT model": ("text_embedding_padding",),
    "a Cosmos or Anima model": ("cross_attn.k_proj.weight",),
    "a Qwen-Image 2 model": ("txt_in.text_norm.weight",),
    "an Ovis-Image model": ("context_embedder_norm.weight",),
    "a FLUX.3 model": ("early_stream_modulations.image.lin.weight", "early_stream_modulations.image.linear.weight"),
    "a Krea 2 model": ("txtfusion.projector.weight", "text_fusion.projector.weight"),
    "a FIBO model": ("caption_projection.0.linear.weight",),
    "a LongCat-Image or Bria model": ("time_embed.timestep_embedder.linear_1.weight",),
    "a Kandinsky model": ("pooled_text_embeddings.in_layer.weight",),
}
CONTROL = re.compile(r"(?:^|\.)controlnet_\w+\.", re.MULTILINE)
"""In the name of a tensor of a ControlNet that has the text's maps of its model, and would pass for one."""
ALONE = {
    # what a file without a map of the text is, by what is in the name of a tensor
    "a LoRA, not a model": (
        r"lora\d?[._](up|down|A|B|linear_layer)\b|\.(lokr_w|hada_w|oft_|dora_scale|lora_magnitude)|"
        r"\.(diff|diff_b|set_weight|on_input)$"
    ),
    "an IP-Adapter, not a model": r"(^|[._])ip_adapter|_ip\.weight$",
    "a ControlNet, not a model": r"^control_(model|layers)\.|input_hint_block|^(down|mid)_blocks?\..*zero_conv",
    "a T2I-Adapter, not a model": r"^(adapter\.)?body\.\d+\.(block|in_conv|resnets)",
    "a textual inversion, not a model": r"^(emb_params|clip_[lg]|string_to_param.*|<.*>)$",
    "a CLIP of words and pictures, which --judge takes": r"^visual_projection\.weight$",
    "a text encoder, which --text-encoder takes beside a model": (
        r"^(?!cond_stage_model|conditioner|text_encoders)(.*\.)?(token_embedding|embed_tokens|shared)\.weight$"
    ),
    "an autoencoder, not a model": r"(^|\.)(encoder|decoder)\.(conv_in|conv1)\.weight$",
    "an upscaler, not a model": r"RDB\d|\.rdb\d|^upsampler\.",
}
RELATIVES = {
    "Stable Diffusion 1.x": "a smaller model than that, as BK-SDM is",
    "Stable Diffusion XL": "a smaller model than that, as SSD-1B, Segmind Vega and KOALA are",
    "FLUX.1": "a model without a pooled vector, as LongCat-Image is",
}
"""What has some of a family's maps."""


def model(names: Iterable[str]) -> str | None:
    """What a model is that may have maps of the text and is not edited here; None for any other file."""
    lines = "".join(f"{name}\n" for name in names)
    for kind, marks in FOREIGN.items():
        if any(f"{mark}\n" in lines for mark in marks):
            return kind
    return "a ControlNet, not a model" if CONTROL.search(lines) else None


def alone(names: Iterable[str]) -> str | None:
    """What a file without a map of the text is; None where that is not known."""
    lines = "\n".join(names)
    return next((kind for kind, mark in ALONE.items() if re.search(mark, lines, re.MULTILINE)), None)


def packed(shapes: Mapping[str, tuple[int, ...]], missing: Iterable[str]) -> str | None:
    """A tensor that tells of a map that is there, and quantised; None where there is none.

    Args:
        shapes: of a file's tensors, by name.
        missing: maps that are not there, or not as matrices.
    """
    flat = (name for name in missing if len(shapes.get(name, ())) == 1)
    return next(flat, None) or next(filter(QUANTISED.search, shapes), None)


def relative(family: str) -> str:
    """What a file may be that has some of a family's maps."""
    return RELATIVES.get(family, "another kind of model")
