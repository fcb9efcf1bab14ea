"""ComfyUI's own networks, small and random, patched by its own loader with an exported LoRA: which maps it finds.

ComfyUI is no package: beside a checkout, with its requirements installed, run
`PYTHONPATH=ComfyUI pytest tests/test_comfyui_loras.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.editing.delta import Delta, Origin
from timecli.editing.solve import Operator, apply
from timecli.files.rewriting import write_tensors
from timecli.models import streams
from timecli.models.checkpoint import Checkpoint, open_checkpoint
from timecli.shipping import export

UNET: dict[str, Any] = {
    "image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": 32, "use_spatial_transformer": True,
    "num_head_channels": 16,
}  # fmt: skip
SD: dict[str, Any] = UNET | {
    "model_channels": 64, "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1, "use_linear_in_transformer": False,
}  # fmt: skip
XL: dict[str, Any] = UNET | {
    "num_res_blocks": [2] * 3, "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0] * 3 + [2] * 3 + [10] * 3, "transformer_depth_middle": 10, "context_dim": 24,
    "use_linear_in_transformer": True, "num_classes": "sequential", "adm_in_channels": 20 + 12,
}  # fmt: skip
MMDIT: dict[str, Any] = {
    "input_size": None, "patch_size": 2, "in_channels": 16, "depth": 2, "adm_in_channels": 20, "num_patches": 64,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 24, "out_features": 128}},
    "pos_embed_max_size": 8, "pos_embed_scaling_factor": None,
}  # fmt: skip
DIT: dict[str, Any] = {
    "in_channels": 4, "out_channels": 4, "patch_size": 2, "context_in_dim": 24, "hidden_size": 32, "mlp_ratio": 2.0,
    "num_heads": 2, "depth": 2, "depth_single_blocks": 1, "axes_dim": [4, 6, 6], "theta": 10000, "qkv_bias": True,
    "txt_ids_dims": [], "vec_in_dim": None,
}  # fmt: skip
QWEN: dict[str, Any] = {
    "num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 24,
    "pooled_projection_dim": 20, "axes_dims_rope": (4, 6, 6), "in_channels": 16, "out_channels": 4,
}  # fmt: skip
FLUX2 = {
    "patch_size": 1,
    "context_in_dim": 15360,
    "guidance_embed": True,
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
}
Z_IMAGE: dict[str, Any] = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 256, "cap_feat_dim": 24, "n_layers": 1,
    "n_refiner_layers": 1, "n_heads": 16, "n_kv_heads": 16, "axes_dims": [4, 6, 6], "axes_lens": [64, 64, 64],
    "qk_norm": True, "z_image_modulation": True, "pad_tokens_multiple": 32,
}  # fmt: skip
CHROMA = {"in_dim": 8, "out_dim": 32, "hidden_dim": 16, "n_layers": 2}
NETWORKS: dict[str, tuple[str, dict[str, Any], str, dict[str, int]]] = {
    # ComfyUI's name and sizes of a network, our name of it, and how many maps it finds in a form, where not all
    "sd1": ("SD15", SD | {"context_dim": 24}, "Stable Diffusion 1.x", {"peft": 0}),
    "sd2": ("SD20", SD | {"context_dim": 1024}, "Stable Diffusion 2.x", {"peft": 0}),
    "sdxl": ("SDXL", XL, "Stable Diffusion XL", {"peft": 1}),
    "sd3": ("SD3", MMDIT, "Stable Diffusion 3", {}),
    "flux": ("Flux", DIT | {"vec_in_dim": 20, "guidance_embed": True}, "FLUX.1", {}),
    "schnell": ("FluxSchnell", DIT | {"vec_in_dim": 20, "guidance_embed": False}, "FLUX.1", {}),
    "chroma": ("Chroma", DIT | CHROMA, "Chroma", {}),
    "qwen-image": ("QwenImage", QWEN, "Qwen-Image", {}),
    "flux2": ("Flux2", DIT | FLUX2, "FLUX.2 dev", {}),
    "z-image": ("ZImage", Z_IMAGE, "Z-Image", {}),
}
PREFIX = "diffusion_model."


@pytest.fixture(scope="module")
def comfy() -> Any:
    """The modules of a checkout, which read their options from the command line."""
    pytest.importorskip("comfy.options")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["comfy", "--cpu"])
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.lora
        import comfy.lora_convert
        import comfy.model_patcher
        import comfy.supported_models
    return comfy


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(comfy: Any, name: str) -> torch.nn.Module:
    kind, sizes, _, _ = NETWORKS[name]
    if not hasattr(comfy.supported_models, kind):
        pytest.skip(f"this version of ComfyUI does not draw {name}")
    if "axes_dim" in sizes:  # later versions of ComfyUI ask for more
        taken = comfy.ldm.chroma.model.ChromaParams if name == "chroma" else comfy.ldm.flux.model.FluxParams
        sizes = {key: size for key, size in sizes.items() if key in {one.name for one in fields(taken)}}
    found = getattr(comfy.supported_models, kind)({**sizes, "dtype": torch.float32})
    model = found.get_model({}, device="cpu").eval()
    random = torch.Generator().manual_seed(1)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=random) * 0.2)
    return model  # type: ignore[no-any-return]


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a file of the network has, by ComfyUI's names without the first part."""
    state = network.state_dict()
    return {key.removeprefix(PREFIX): state[key].clone() for key in state if key.startswith(PREFIX)}


@pytest.fixture
def model(network: torch.nn.Module, name: str, tmp_path: Path) -> Checkpoint:
    """The network's file, as ComfyUI saves it."""
    path = tmp_path / "model.safetensors"
    save_file({f"model.{PREFIX}{key}": tensor.contiguous() for key, tensor in weights(network).items()}, path)
    checkpoint = open_checkpoint(path, needs="nothing")
    assert checkpoint.family.name == NETWORKS[name][2]
    return checkpoint


@pytest.fixture
def delta(model: Checkpoint) -> Delta:
    random, operators = torch.Generator().manual_seed(2), {}
    for stream, width in zip(model.family.streams, (model.width, 20), strict=False):
        left, right = torch.randn(width, 3, generator=random), torch.randn(3, width, generator=random)
        operators[stream] = Operator(left / width**0.5, right, 1.0)
    return Delta(operators, Origin("x", "", "0", "", (0.1,), ("k", "v"), None, ()))


@pytest.fixture
def patched(comfy: Any, network: torch.nn.Module) -> Callable[[Path], dict[str, torch.Tensor]]:
    """A network's weights with a LoRA as ComfyUI's node loads it at strength 1."""

    def with_lora(path: Path) -> dict[str, torch.Tensor]:
        keys = comfy.lora.model_lora_keys_unet(network, {})
        patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(load_file(path)), keys)
        device = torch.device("cpu")
        patcher = comfy.model_patcher.ModelPatcher(network, device, device)
        assert set(patcher.add_patches(patches, 1.0)) == set(patches), "every patch has its weight"
        patcher.patch_model(device_to=device)
        return weights(network)

    return with_lora


@pytest.mark.parametrize("form", ["lora", "peft", "diff"])
def test_comfyui_makes_of_a_lora_what_the_edit_makes_of_the_weights(
    form: str,
    name: str,
    network: torch.nn.Module,
    model: Checkpoint,
    delta: Delta,
    patched: Callable[[Path], dict[str, torch.Tensor]],
    tmp_path: Path,
) -> None:
    """And of a form that it does not read it changes nothing but what `docs/files.md` says."""
    before, made = weights(network), export.adapter(model, delta, form, torch.float32, delta)
    write_tensors(tmp_path / "lora.safetensors", made.tensors, export.about(model, delta, form, []))
    after = patched(tmp_path / "lora.safetensors")
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    maps = {matrix.names[streams.LDM]: matrix for matrix in model.family.matrices}
    assert changed <= maps.keys(), "nothing else changes"
    assert len(changed) == NETWORKS[name][3].get(form, len(maps))
    assert form != model.family.adapter or len(changed) == len(maps), "the default is read whole"
    for key in changed:
        wanted = apply(before[key].double(), delta.operators[maps[key].stream])
        assert (after[key] - wanted).norm() < 1e-5 * (wanted - before[key]).norm(), key
