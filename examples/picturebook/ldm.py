"""Tensor names: diffusers' -> those of the original latent-diffusion code (LDM), which single files use.

Tables of what a name begins with; what follows is the same in both.
"""

from __future__ import annotations

import torch

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_RESNET = {name: name for name in ("norm1", "conv1", "norm2", "conv2")} | {"conv_shortcut": "nin_shortcut"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def block(name: str, ldm_name: str, layers: dict[str, str]) -> dict[str, str]:
    """The rows of a table for one block whose layers have other names too."""
    return {f"{name}.{layer}": f"{ldm_name}.{ldm_layer}" for layer, ldm_layer in layers.items()}


def unet_table() -> dict[str, str]:
    """LDM numbers the blocks of each half in one row; its input block 0 is the first convolution."""
    table = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "mid_block.attentions.0": "middle_block.1",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        **block("mid_block.resnets.0", "middle_block.0", RESNET),
        **block("mid_block.resnets.1", "middle_block.2", RESNET),
    }
    for level in range(4):
        for layer in range(2):  # two layers and a downsampler are three input blocks
            old, new = f"down_blocks.{level}", f"input_blocks.{1 + 3 * level + layer}"
            table |= block(f"{old}.resnets.{layer}", f"{new}.0", RESNET)
            table[f"{old}.attentions.{layer}"] = f"{new}.1"
        table[f"{old}.downsamplers.0.conv"] = f"input_blocks.{3 + 3 * level}.0.op"
        for layer in range(3):  # an upsampler stands in the output block of its last layer
            old, new = f"up_blocks.{level}", f"output_blocks.{3 * level + layer}"
            table |= block(f"{old}.resnets.{layer}", f"{new}.0", RESNET)
            table[f"{old}.attentions.{layer}"] = f"{new}.1"
        table[f"{old}.upsamplers.0.conv"] = f"{new}.{1 if level == 0 else 2}.conv"  # level 0 has no attention before it
    return table


def vae_table() -> dict[str, str]:
    """LDM counts the levels of the decoder from the smallest stride, diffusers from the largest."""
    table = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half in ("encoder", "decoder"):
        table |= {f"{half}.conv_in": f"{half}.conv_in", f"{half}.conv_out": f"{half}.conv_out"}
        table[f"{half}.conv_norm_out"] = f"{half}.norm_out"
        table |= block(f"{half}.mid_block.attentions.0", f"{half}.mid.attn_1", VAE_ATTENTION)
        for layer in range(2):
            table |= block(f"{half}.mid_block.resnets.{layer}", f"{half}.mid.block_{layer + 1}", VAE_RESNET)
    for level in range(4):
        for layer in range(2):
            table |= block(
                f"encoder.down_blocks.{level}.resnets.{layer}", f"encoder.down.{level}.block.{layer}", VAE_RESNET
            )
        for layer in range(3):
            table |= block(
                f"decoder.up_blocks.{level}.resnets.{layer}", f"decoder.up.{3 - level}.block.{layer}", VAE_RESNET
            )
        table[f"encoder.down_blocks.{level}.downsamplers.0.conv"] = f"encoder.down.{level}.downsample.conv"
        table[f"decoder.up_blocks.{level}.upsamplers.0.conv"] = f"decoder.up.{3 - level}.upsample.conv"
    return table


TEXT_TABLE = {name: f"text_model.{name}" for name in ("embeddings", "encoder", "final_layer_norm")}
PARTS = {
    # part of the pipeline -> (what its LDM names begin with, table, number of tensors in SD 1.x or None)
    "unet": ("model.diffusion_model", unet_table(), 686),
    "vae": ("first_stage_model", vae_table(), 248),
    "text_encoder": ("cond_stage_model.transformer", TEXT_TABLE, None),  # the number depends on its depth
}


def ldm_name(name: str, table: dict[str, str]) -> str:
    """The LDM name of a tensor, by the longest beginning that is in the table."""
    words = name.split(".")
    for end in range(len(words), 0, -1):
        beginning = ".".join(words[:end])
        if beginning in table:
            return ".".join([table[beginning], *words[end:]])
    raise KeyError(f"no rule for {name}")


def to_ldm(part: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of one part of the pipeline by LDM names."""
    prefix, table, count = PARTS[part]
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        new = f"{prefix}.{ldm_name(name, table)}"
        # LDM's autoencoder attends by 1 x 1 convolutions.
        convolution = ".mid.attn_1." in new and tensor.ndim == 2
        renamed[new] = (tensor[:, :, None, None] if convolution else tensor).contiguous()
    if len(renamed) != len(tensors) or len(renamed) != (count or len(renamed)):
        raise ValueError(f"{part}: {len(tensors)} tensors became {len(renamed)} names; SD 1.x has {count}")
    return renamed
