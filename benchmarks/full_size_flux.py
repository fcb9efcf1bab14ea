"""FLUX.1's files in full size, bf16: real names, shapes and bytes; random where an edit needs them, holes elsewhere."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from timecli.files.tensors import raw

TOKENIZER = Path(__file__).parent.parent / "examples" / "picturebook" / "config" / "tokenizer"
TEXTS = {
    "text_encoder": (
        CLIPTextModel,
        # ViT-L, whose vector is that of the highest token id
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, eos_token_id=2),
    ),
    "text_encoder_2": (
        T5EncoderModel,
        T5Config(d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu"),
    ),
}
FILLED = {
    "text_encoder": ("",),
    # Enough for a position to know of the others.
    "text_encoder_2": ("shared.weight", "block.0.layer.0.layer_norm.weight", "final_layer_norm.weight")
    + tuple(f"block.0.layer.0.SelfAttention.{part}.weight" for part in "qkvo"),
}
Shapes = dict[str, tuple[int, ...]]


def write(path: Path, shapes: Shapes, filled: tuple[str, ...]) -> Path:
    """A safetensors file with normal numbers in the tensors whose names end so, and a hole for all others."""
    names = sorted(shapes, key=lambda name: not name.endswith(filled))
    entries, position = {}, 0
    for name in names:
        size = 2 * torch.Size(shapes[name]).numel()
        entries[name] = {"dtype": "BF16", "shape": list(shapes[name]), "data_offsets": [position, position + size]}
        position += size
    header, random = json.dumps(entries).encode(), torch.Generator().manual_seed(0)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for name in (name for name in names if name.endswith(filled)):
            file.write(raw(torch.randn(shapes[name], generator=random).bfloat16()))
        file.truncate(8 + len(header) + position)
    return path


def network(path: Path, blocks: int = 19) -> Path:
    """The network alone, 24 GB, in single files' names; `blocks` double ones and twice as many single ones."""
    shapes: Shapes = {"txt_in.weight": (3072, 4096), "vector_in.in_layer.weight": (3072, 768)}
    for i in range(blocks):
        for side in ("img", "txt"):
            shapes[f"double_blocks.{i}.{side}_attn.qkv.weight"] = (9216, 3072)
            shapes[f"double_blocks.{i}.{side}_attn.proj.weight"] = (3072, 3072)
            shapes[f"double_blocks.{i}.{side}_mod.lin.weight"] = (18432, 3072)
            shapes[f"double_blocks.{i}.{side}_mlp.0.weight"] = (12288, 3072)
            shapes[f"double_blocks.{i}.{side}_mlp.2.weight"] = (3072, 12288)
    for i in range(2 * blocks):
        shapes[f"single_blocks.{i}.linear1.weight"] = (21504, 3072)
        shapes[f"single_blocks.{i}.linear2.weight"] = (3072, 15360)
        shapes[f"single_blocks.{i}.modulation.lin.weight"] = (9216, 3072)
    return write(path, shapes, ("txt_in.weight", "vector_in.in_layer.weight"))


def text_encoders(folder: Path) -> tuple[Path, list[Path]]:
    """A diffusers folder with configs and tokenizers alone, and CLIP ViT-L and T5-XXL in files of their own.

    Both have picturebook's tokenizer, of 77 positions.
    """
    files = []
    for name, (kind, config) in TEXTS.items():
        config.save_pretrained(folder / name)
        shutil.copytree(TOKENIZER, folder / name.replace("text_encoder", "tokenizer"))
        with torch.device("meta"):
            shapes = {key: tuple(tensor.shape) for key, tensor in kind(config).state_dict().items()}
        shapes.pop("encoder.embed_tokens.weight", None)  # the same as `shared.weight`
        files.append(write(folder / f"{name}.safetensors", shapes, FILLED[name]))
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    return folder, files
