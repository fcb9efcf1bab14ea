"""Run beside a checkout of ComfyUI: what stands beside the edited MODEL, an SDXL refiner and control nets.

Prints a JSON object.
"""

from __future__ import annotations

import json
from typing import Any

import comfyui_small as small

# isort: split
import comfy.cldm.cldm as cldm
import comfy.controlnet
import comfy.supported_models as models
import utils.install_util  # noqa: F401  before nodes, as main.py does

# isort: split
import nodes as own
import torch
from timecli_nodes import conditioning, network

TEXT = "a rose -> a blue rose"
REFINER = {
    **small.SDXL, "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 2, 2], "context_dim": 24,
    "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0], "transformer_depth_middle": 4, "adm_in_channels": 24 + 1280,
    "transformer_depth_output": [0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0],
}  # fmt: skip


def bits(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def refiner() -> dict[str, Any]:
    """A refiner behind an edited SDXL: it draws what it draws without the edit, and takes none itself."""
    base, clip = small.FAMILIES["SDXL"]()
    _, second = small.model(models.SDXLRefiner, REFINER)
    words = {"clip_l": small.CLIP, "clip_g": {**small.CLIP, "projection_dim": 24}}
    target = models.SDXLRefiner(dict(REFINER)).clip_target({})
    texts = [
        small.conditioning(small.text(None, {f"{name}_model_config": one for name, one in words.items()}, target), text)
        for text in ("a rose", "")
    ]
    before, kept = small.drawn(second, *texts), bits(second.model)
    changed, edit = small.pack.EditAssumption().edit(base, clip, TEXT, 1.0)
    small.drawn(changed, *(small.conditioning(clip, text) for text in ("a rose", "")))
    after, said = small.drawn(second, *texts), []
    for ask in (
        lambda: small.pack.EditAssumption().edit(second, clip, TEXT, 1.0),
        lambda: network.patched(second, edit, 1.0),
    ):
        try:
            ask()
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    return {"same": torch.equal(before, after) and same(kept, bits(second.model)), "refused": said}


def control() -> dict[str, Any]:
    """A control net that reads text beside an edited MODEL: its own maps are not edited."""
    patcher, clip = small.FAMILIES["SD 1"]()
    sizes = {name: one for name, one in small.UNET.items() if name not in ("out_channels", "transformer_depth_output")}
    net = cldm.ControlNet(**sizes, **small.HEADS, hint_channels=3, device="cpu")
    small.sized(net)
    control = comfy.controlnet.ControlNet(net, load_device=small.CPU)
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    changed, edit = small.pack.EditAssumption().edit(patcher, clip, TEXT, 1.0)
    texts = [small.conditioning(clip, text) for text in ("a rose", "")]
    shift = conditioning.Delta("x", conditioning.Operator(edit.operator.left, edit.operator.right), None)
    kept = bits(net)

    def drawn(model: Any, given: list[Any], reads: list[Any]) -> torch.Tensor:
        """The network is given the one, and the control net reads the other."""
        for one, other in zip(given, reads, strict=True):
            for (_, extras), (states, _) in zip(one, other, strict=True):
                extras["cross_attn_controlnet"] = states
        both = own.ControlNetApplyAdvanced().apply_controlnet(*given, control, image, 1e-4, 0.0, 1.0)
        return small.drawn(model, *both)

    moved = [conditioning.edited(text, shift, 1.0) for text in texts]
    plain, found = drawn(patcher, texts, texts), drawn(changed, texts, texts)
    wanted, both = drawn(patcher, moved, texts), drawn(patcher, moved, moved)
    way = (wanted - plain).norm()
    return {
        "picture": float((found - wanted).norm() / way),
        "heard": float((plain - small.drawn(patcher, *([[s, {}] for s, _ in text] for text in texts))).norm() / way),
        "both edited": float((both - wanted).norm() / way),
        "same": same(kept, bits(net)),
    }


@torch.inference_mode()
def main() -> dict[str, Any]:
    return {"refiner": refiner(), "control": control()}


print(json.dumps(main()))
