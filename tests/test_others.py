"""Files that are no model which is edited here: a sentence names what each is, and none passes for a model."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.errors import CheckpointError
from timecli.files.safefile import open_file
from timecli.models import layouts, others, streams
from timecli.models.checkpoint import open_checkpoint

from . import small
from .conftest import Run, ldm, small_tensors
from .test_transformers import manifest

__all__ = ["manifest"]  # the fixture
FLUX: dict[str, Any] = {
    "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2,
    "joint_attention_dim": 16, "axes_dims_rope": (2, 2, 4),
}  # fmt: skip
POOLED = FLUX | {"pooled_projection_dim": 12}
SD3 = {
    "sample_size": 16, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 1, "attention_head_dim": 8,
    "num_attention_heads": 2, "caption_projection_dim": 16, "joint_attention_dim": 32, "pooled_projection_dim": 20,
    "pos_embed_max_size": 16,
}  # fmt: skip
QWEN = {
    "in_channels": 16, "out_channels": 4, "num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 16, "axes_dims_rope": (8, 4, 4),
}  # fmt: skip
HIDREAM = {
    "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 1, "num_single_layers": 1,
    "attention_head_dim": 16, "num_attention_heads": 2, "caption_channels": [16, 16], "text_emb_dim": 16,
    "num_routed_experts": 1, "num_activated_experts": 1, "axes_dims_rope": (4, 6, 6), "max_resolution": (8, 8),
    "llama_layers": [0, 0],
}  # fmt: skip
UNET = {"block_out_channels": (8,) * 4, "cross_attention_dim": 8, "attention_head_dim": 2, "norm_num_groups": 4}
NETWORKS: dict[str, tuple[dict[str, Any], str]] = {
    # a class of diffusers that has maps of the text with names of a family, its size, what it is
    "FluxControlNetModel": (POOLED, "a ControlNet, not a model"),
    "SD3ControlNetModel": (SD3, "a ControlNet, not a model"),
    "QwenImageControlNetModel": (QWEN, "a ControlNet, not a model"),
    "ControlNetModel": (UNET, "a ControlNet, not a model"),
    "LongCatImageTransformer2DModel": (POOLED, "a LongCat-Image or Bria model"),
    "BriaTransformer2DModel": (FLUX, "a LongCat-Image or Bria model"),
    "BriaFiboTransformer2DModel": (FLUX | {"text_encoder_dim": 8}, "a FIBO model"),
    "HiDreamImageTransformer2DModel": (HIDREAM, "a HiDream model"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_another_kind_does_not_pass_for_a_model(name: str, tmp_path: Path) -> None:
    sizes, kind = NETWORKS[name]
    getattr(diffusers, name)(**sizes).save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    with pytest.raises(CheckpointError, match=re.escape(f"{path} is {kind}, which has no edit of this kind here; use")):
        open_checkpoint(path, needs="nothing")


def test_models_of_which_they_are_made_are_read(tmp_path: Path) -> None:
    """The control."""
    for name, sizes, family in (("Flux", POOLED, "FLUX.1"), ("SD3", SD3, "Stable Diffusion 3")):
        getattr(diffusers, f"{name}Transformer2DModel")(**sizes).save_pretrained(tmp_path / name)
        path = tmp_path / name / "diffusion_pytorch_model.safetensors"
        assert open_checkpoint(path, needs="nothing").family.name == family


LORA = "is a LoRA, not a model"
ALONE = {
    "diffusion_model.double_blocks.0.img_attn.qkv.lokr_w1": LORA,
    "lycoris_layers_0_attention_to_k.hada_w1_a": LORA,
    "lora_unet_down_blocks_0.oft_blocks": LORA,
    "transformer.transformer_blocks.0.attn.to_k.oft_R.weight": LORA,
    "base_model.model.to_k.lora_A.default.weight": LORA,
    "unet.mid_block.attn2.processor.to_k_lora.down.weight": LORA,
    "transformer_blocks.0.qkv_proj.lora_down": LORA,
    "double_blocks.0.processor.qkv_lora1.down.weight": LORA,
    "lora_unet_down_blocks_0_attn2_to_k.on_input": LORA,
    "diffusion_model.img_in.set_weight": LORA,
    "ip_adapter.1.to_k_ip.weight": "is an IP-Adapter, not a model",
    "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": "is a ControlNet, not a model",
    "control_layers.0.attention.to_k.weight": "is a ControlNet, not a model",
    "adapter.body.0.block1.weight": "is a T2I-Adapter, not a model",
    "emb_params": "is a textual inversion, not a model",
    "clip_g": "is a textual inversion, not a model",
    "visual_projection.weight": "is a CLIP of words and pictures, which --judge takes",
    "text_model.embeddings.token_embedding.weight": "is a text encoder, which --text-encoder takes beside a model",
    "model.embed_tokens.weight": "is a text encoder, which --text-encoder takes beside a model",
    "shared.weight": "is a text encoder, which --text-encoder takes beside a model",
    "decoder.conv_in.weight": "is an autoencoder, not a model",
    "first_stage_model.encoder.conv_in.weight": "is an autoencoder, not a model",
    "body.0.rdb1.conv1.weight": "is an upscaler, not a model",
    "some.weight": "has no map that reads text",
}


@pytest.mark.parametrize("name", ALONE)
def test_a_file_without_maps_of_the_text_is_named(name: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(f"x {ALONE[name]}")) as refusal:
        layouts.find({name: (4, 4)}, "x")
    assert str(refusal.value).endswith(f"use {others.MODELS}.")
    whole = {ldm(matrix): (4, 4) for matrix in layouts.SD1.matrices}
    assert layouts.find({**whole, name: (4, 4)}, "x")[0] is layouts.SD1, "the control: a model that has it, too"


def test_a_smaller_model_is_counted_against_the_one_that_it_is_made_of() -> None:
    """SSD-1B has half of SDXL's maps, and as many of SD 1's as those have in common."""
    deep = re.compile(r"(middle_block|output_blocks\.[01])\.1\.transformer|transformer_blocks\.[4-9]\.")
    shapes = {ldm(matrix): (4, 8) for matrix in layouts.SDXL.matrices if not deep.search(ldm(matrix))}
    with pytest.raises(
        CheckpointError, match=rf"has {len(shapes)} of the 141 maps .* Stable Diffusion XL .* as SSD-1B"
    ):
        layouts.find(shapes, "x")
    smaller = {ldm(m): (4, 8) for m in layouts.SD1.matrices if "middle" not in ldm(m)}
    with pytest.raises(CheckpointError, match=r"has 30 of the 32 maps .* Stable Diffusion 1\.x .* as BK-SDM is"):
        layouts.find(smaller, "x")


PACKED: dict[str, Callable[[str, tuple[int, ...]], dict[str, tuple[int, ...]]]] = {
    # how quantisers keep a weight
    "SDNQ": lambda name, shape: {name: (shape[0] * shape[1] // 2,), f"{name[:-6]}scale": (shape[0], 1)},
    "quanto": lambda name, shape: {f"{name}._data": shape, f"{name}._scale": (shape[0], 1)},
    "GPTQ": lambda name, shape: {f"{name[:-6]}qweight": (shape[1] // 8, shape[0])},
}


@pytest.mark.parametrize("form", PACKED)
@pytest.mark.parametrize("family", [layouts.FLUX1, layouts.SDXL, layouts.QWEN_IMAGE], ids=lambda one: one.network)
def test_maps_that_a_quantiser_packed_are_not_missing(form: str, family: streams.Family) -> None:
    names = [matrix.names[streams.DIFFUSERS] for matrix in family.matrices]
    marks = dict.fromkeys(family.marks[1:], (8, 8))
    assert layouts.find({**marks, **dict.fromkeys(names, (8, 8))}, "x")[0] is family, "the control"
    packed = {key: shape for name in names for key, shape in PACKED[form](name, (8, 8)).items()}
    with pytest.raises(
        CheckpointError, match=r"x is quantised, and has packed .*; edit the model that it was made from"
    ):
        layouts.find({**marks, **packed}, "x")


def test_bytes_behind_the_last_tensor_are_cut_with_the_command_that_is_named(small: Path, tmp_path: Path) -> None:
    """Some programs read over them, and the file is whole."""
    path = tmp_path / "COPY"
    path.write_bytes(small.read_bytes() + bytes(16))
    with pytest.raises(CheckpointError, match="16 bytes follow its last tensor; no tensor is missing") as refusal:
        open_file(path)
    assert "download" not in str(refusal.value) and "not a complete" not in str(refusal.value)
    command = re.search(r'`python -c "(.*)"`', str(refusal.value))
    assert command is not None
    exec(command[1].replace("'COPY'", repr(str(path))))
    assert path.read_bytes() == small.read_bytes() and open_file(path).entries


def quantised(folder: Path, part: str, method: str) -> None:
    """A part whose matrices are packed into bytes, but for those that a network reads text with."""
    (path,) = (folder / part).glob("*.safetensors")
    found: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(path).items():
        if tensor.ndim == 2 and not re.search("embed|shared|relative", name):
            found[name] = torch.zeros(tensor.numel() // 2, 1, dtype=torch.uint8)
            found |= {f"{name}.absmax": torch.ones(4), f"{name}.quant_map": torch.ones(16)}
        else:
            found[name] = tensor
    save_file(found, path, {"format": "pt"})
    config = json.loads((folder / part / "config.json").read_text())
    about = {"quant_method": method, "load_in_4bit": True}
    (folder / part / "config.json").write_text(json.dumps({**config, "quantization_config": about}))


def test_a_quantised_text_encoder_is_read_from_elsewhere(run: Run, manifest: Path, tmp_path: Path) -> None:
    whole = small.saved("flux", tmp_path / "whole")
    shutil.copytree(whole, tmp_path / "model")
    quantised(tmp_path / "model", "text_encoder_2", "bitsandbytes")
    done = run("edit", manifest, tmp_path / "model", "-o", tmp_path / "out", "--no-cache")
    assert done.code == 2 and "give its text encoder in fp16, bf16 or fp32 with --text-encoder" in done.err
    for name, model, more in (("a", whole, ()), ("b", tmp_path / "model", ("--text-encoder", whole))):
        done = run("edit", manifest, model, *more, "--no-cache", "--delta", tmp_path / name)
        assert done.code == 0, done.err
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_quantised_network_that_cannot_be_drawn_is_no_damaged_one(run: Run, manifest: Path, tmp_path: Path) -> None:
    model = small.saved("flux", tmp_path / "model")
    quantised(model, "transformer", "bitsandbytes")
    done = run("edit", manifest, model, "-o", tmp_path / "out", "--no-cache")
    assert done.code == 0, done.err
    done = run("verify", manifest, model, "-o", tmp_path / "report", "--seeds", 1, "--steps", 1)
    assert done.code == 2 and "it is quantised, so verify the edit on the model that it was made from" in done.err
    assert "another copy" not in done.err


def test_a_unet_for_another_autoencoder_takes_no_picture(run: Run, manifest: Path, tmp_path: Path) -> None:
    """Fine-tunes of SDXL for FLUX.2's autoencoder draw in 32 channels."""
    unet = "model.diffusion_model."
    ends = {
        f"{unet}input_blocks.0.0.weight": torch.zeros(32, 32, 3, 3),
        f"{unet}out.2.weight": torch.zeros(32, 32, 3, 3),
    }
    save_file({**small_tensors(), **ends}, tmp_path / "m.safetensors")
    assert run("edit", manifest, tmp_path / "m.safetensors", "-o", tmp_path / "out").code == 0
    done = run("verify", manifest, tmp_path / "m.safetensors", "-o", tmp_path / "report")
    assert done.code == 2 and "draws 32 channels, for another autoencoder" in done.err
    assert "a picture among them" not in done.err and not (tmp_path / "report").exists()
