"""Run beside a checkout of ComfyUI: its own networks, small and random, with edited weights and with edited text.

Prints a JSON object: for each network how far edited text is from edited weights, in lengths of the way that the edit
goes, and how far another edit, and one of the text alone, are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

folder, sys.argv[1:] = sys.argv[1], ["--cpu"]
sys.path.insert(0, folder)

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.ops  # noqa: E402
import conditioning  # noqa: E402
import torch  # noqa: E402
from comfy.ldm.flux.model import Flux, FluxParams  # noqa: E402
from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402

WHERE: dict[str, Any] = {"dtype": torch.float32, "device": "cpu", "operations": comfy.ops.disable_weight_init}
SIZES = torch.linspace(0, 1, 12)[None]
"""What SDXL's map of the pooled vector reads beside it."""


def flux() -> torch.nn.Module:
    later = {"txt_ids_dims": []} if "txt_ids_dims" in {field.name for field in fields(FluxParams)} else {}
    return Flux(
        image_model="flux", in_channels=4, out_channels=4, patch_size=2, vec_in_dim=20, context_in_dim=24,
        hidden_size=32, mlp_ratio=2.0, num_heads=2, depth=1, depth_single_blocks=1, axes_dim=[4, 6, 6], theta=10000,
        qkv_bias=True, guidance_embed=False, **later, **WHERE,
    )  # fmt: skip


def sd3() -> torch.nn.Module:
    return MMDiT(
        input_size=None, patch_size=2, in_channels=4, depth=2, mlp_ratio=2.0, adm_in_channels=20, num_patches=64,
        context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 24, "out_features": 128}},
        pos_embed_max_size=8, pos_embed_scaling_factor=None, **WHERE,
    )  # fmt: skip


def sdxl() -> torch.nn.Module:
    return UNetModel(
        image_size=8, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=[1, 1], channel_mult=[1, 2],
        transformer_depth=[0, 1], transformer_depth_output=[0, 0, 1, 1], transformer_depth_middle=1, context_dim=24,
        num_heads=2, use_spatial_transformer=True, use_linear_in_transformer=True, adm_in_channels=20 + 12,
        num_classes="sequential", **WHERE,
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], tuple[str, ...], str]] = {
    # how it is made, its maps of the text, that of the pooled vector
    "FLUX.1": (flux, ("txt_in.weight",), "vector_in.in_layer.weight"),
    "SD 3": (sd3, ("context_embedder.weight",), "y_embedder.mlp.0.weight"),
    "SDXL": (sdxl, ("attn2.to_k.weight", "attn2.to_v.weight"), "label_emb.0.0.weight"),
}


def made(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """With weights so large that every part of the network is heard."""
    network, random = make().eval(), torch.Generator().manual_seed(1)
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.copy_(torch.randn(tensor.shape, generator=random) * (0.2 if tensor.ndim > 1 else 0.05))
    return network


def operator(width: int, seed: int) -> Any:
    random = torch.Generator().manual_seed(seed)
    left, right = torch.randn(width, 3, generator=random), torch.randn(3, width, generator=random)
    return conditioning.Operator(left / width**0.5, right)


def drawn(name: str, network: torch.nn.Module, given: list[Any]) -> torch.Tensor:
    (states, extras), latent, time = given[0], torch.linspace(-1, 1, 256).view(1, 4, 8, 8), torch.tensor([0.5])
    vector = extras["pooled_output"]
    vector = torch.cat([vector, SIZES], dim=1) if name == "SDXL" else vector
    return network(latent, time, context=states, y=vector).double()


@torch.no_grad()
def measured(name: str) -> dict[str, float]:
    make, text, pooled = NETWORKS[name]
    delta = conditioning.Delta("x", operator(24, 2), operator(20, 3))
    other = conditioning.Delta("x", operator(24, 4), operator(20, 3))
    alone = conditioning.Delta("x", delta.text, None)
    random = torch.Generator().manual_seed(5)
    given = [[torch.randn(1, 7, 24, generator=random), {"pooled_output": torch.randn(1, 20, generator=random)}]]
    network, edited = made(make), made(make)
    for key, weight in edited.named_parameters():
        for ends, one in ((text, delta.text), ((pooled,), delta.pooled)):
            if key.endswith(ends):
                weight[:, : one.width] += weight[:, : one.width] @ one.left @ one.right
    wanted = drawn(name, edited, given)
    way = (drawn(name, network, given) - wanted).norm()
    parts = {"edited": delta, "other": other, "alone": alone}
    found = {key: drawn(name, network, conditioning.edited(given, one, 1.0)) for key, one in parts.items()}
    return {key: float((one - wanted).norm() / way) for key, one in found.items()}


print(json.dumps({name: measured(name) for name in NETWORKS}))
