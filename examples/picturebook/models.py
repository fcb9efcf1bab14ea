"""picturebook's parts, with SD 1.4's topology, and the transformer, with FLUX.1's."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

import phrases
import world

WIDTH = 192
"""Width of the text encoder, SD 1.4's 768 in miniature."""


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-pair vocabulary in which every word of the world is one token; other words fall into pieces."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=10_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator([" ".join(phrases.corpus()).lower()], trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocab = {piece: i for i, piece in enumerate([*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    tokenizer.save_pretrained(folder)
    for word in phrases.corpus():
        for part in word.lower().split():
            if len(tokenizer(part).input_ids) != 3:
                raise RuntimeError(f"the tokenizer splits {part!r}: {tokenizer.tokenize(part)}")
    return tokenizer


def make_judge(tokenizer: CLIPTokenizer) -> CLIPModel:
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": WIDTH // 64,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "projection_dim": 128,
        **ends,
    }
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": world.SIZE,
        "patch_size": 8,
        "projection_dim": 128,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


def make_autoencoder() -> AutoencoderKL:
    """Four channels to a norm's group: a group of one would wipe out the colour of large areas."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=world.SIZE,
    )


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=world.SIZE // 8,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(64, 96, 128, 128),
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def make_noise_schedule() -> DDPMScheduler:
    """SD 1.4's: 1000 steps, scaled-linear betas."""
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)


def make_transformer() -> FluxTransformer2DModel:
    """FLUX.1 in miniature: 2 double and 4 single blocks of width 224, over 2 x 2 packed latents.

    Text comes in through `context_embedder` alone: the pooled vector is multiplied by zeros, which are not trained.
    """
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=32,
        num_attention_heads=7,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(8, 12, 12),
    )
    # Every block begins as the identity (adaLN-Zero, Peebles & Xie 2022), and the whole as zero.
    for name, module in transformer.named_modules():
        if name == "proj_out" or (".norm" in f".{name}" and isinstance(module, torch.nn.Linear)):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    pooled = transformer.time_text_embed.text_embedder.linear_1.weight
    torch.nn.init.zeros_(pooled)
    pooled.requires_grad_(False)
    return transformer


def make_flow_schedule() -> FlowMatchEulerDiscreteScheduler:
    """Straight lines from noise to latents, in even steps."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
