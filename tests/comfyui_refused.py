"""Run beside a checkout of ComfyUI, with a folder: what the nodes say of a CLIP, a text or a MODEL that does not fit.

Prints a JSON object of sentences, and of what stands where they refuse to write.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import comfyui_small as small

# isort: split
import comfy.hooks
import comfy.supported_models as models
import folder_paths
import utils.install_util  # noqa: F401  before nodes, as main.py does

# isort: split
import nodes as own
import torch
from comfy_extras.nodes_hooks import SetClipHooks
from safetensors.torch import save_file
from timecli_nodes import network, solving, states

place = Path(small.ARGUMENTS[0])
MANIFEST = """
name = "blue"
[solve]
SOLVE
[[edit]]
source = "a rose"
destination = "a blue rose"
[preserve]
everyday = "few.txt"
"""
edit = small.pack.EditAssumption().edit


def asked(model: Any, clip: Any, lines: str = "", everyday: str = small.FEW) -> str:
    """What is said below the node, or in its place."""
    (place / "few.txt").write_text(everyday)
    (place / "m.toml").write_text(MANIFEST.replace("SOLVE", lines))
    text = str(place / "m.toml")
    return small.said(edit, model, clip, text, 1.0) or solving.solved(model, clip, text).sentence


def clips(model: Any, clip: Any) -> dict[str, str]:
    xl, of_xl = small.model(models.SDXL, small.SDXL)[1], small.FAMILIES["SDXL"]()[1]
    (behind,) = own.CLIPSetLastLayer().set_last_layer(of_xl, -1)
    (skip,) = own.CLIPSetLastLayer().set_last_layer(clip, -2)
    return {
        "none": asked(model, None),
        "norm": asked(small.model(models.QwenImage, small.QWEN)[1], clip),
        "longer": asked(model, small.FAMILIES["FLUX.1"]()[1]),
        "behind the last": asked(xl, behind),
        "skipped": asked(model, skip),
        "as skipped": asked(model, skip, "clip_skip = 2"),
        "length": asked(model, clip, "length = 100"),
    }


def embedding(model: Any, clip: Any) -> str:
    """A textual inversion of several vectors in a pair."""
    save_file({"emb_params": torch.ones(3, 24)}, place / "style.safetensors")
    clip.tokenizer.clip_l.embedding_directory = str(place)
    text = "a embedding:style rose -> a blue embedding:style rose"
    return small.said(edit, model, clip, text, 1.0) or solving.solved(model, clip, text).sentence


def fingerprints(model: Any, clip: Any) -> list[str]:
    """Of a CLIP, of the same with a hook's LoRA, of the first again, and with a weight that only its layer can read."""
    key = next(name for name in clip.cond_stage_model.state_dict() if name.endswith("1.self_attn.q_proj.weight"))
    rows, columns = clip.cond_stage_model.state_dict()[key].shape
    name = "lora_te_text_model_encoder_layers_1_self_attn_q_proj"
    lora = {f"{name}.lora_up.weight": torch.ones(rows, 1), f"{name}.lora_down.weight": torch.ones(1, columns)}
    (with_hook,) = SetClipHooks().apply_hooks(clip, False, True, comfy.hooks.create_hook_lora(lora, 1.0, 1.0))
    found = [states.read(one, network.maps(model)).fingerprint for one in (clip, with_hook, clip)]
    packed = torch.nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    clip.cond_stage_model.register_parameter("packed", packed)
    found.append(states.read(clip, network.maps(model)).fingerprint)
    del clip.cond_stage_model.packed
    return found


def saved(model: Any, delta: Any) -> dict[str, Any]:
    """What 'Save the edit' says where something is, and whether it left anything."""
    for name in ("timecli", "loras"):
        (place / name).mkdir()
        folder_paths.folder_names_and_paths[name] = ([str(place / name)], {".safetensors", ".delta"})
    save, timecli = small.pack.SaveEdit().save, place / "timecli"
    (place / "loras" / "there.safetensors").write_text("x")
    os.mkfifo(timecli / "pipe.delta")
    (timecli / "folder.delta").mkdir()
    (timecli / "link.delta").symlink_to(place / "elsewhere")
    before = sorted(place.glob("*/*"))
    found: dict[str, Any] = {
        name: small.said(save, delta, name, True, model) for name in ("there", "pipe", "folder", "link")
    }
    found["other model"] = small.said(save, delta, "xl", True, small.model(models.SDXL, small.SDXL)[1])
    found["left"] = [str(path) for path in sorted(place.glob("*/*")) if path not in before]
    folder_paths.folder_names_and_paths["timecli"] = ([str(place / "few.txt")], {".delta"})
    found["no folder"] = small.said(save, delta, "blue", False)
    return found


def hooked(model: Any, changed: Any) -> bool:
    """Whether a weight is read as it was loaded while a patch and, upon it, a hook's are on it."""
    key = next(iter(changed.patches))
    before, low = network.number(model, key), key.removeprefix("diffusion_model.").removesuffix(".weight")
    up, down = torch.ones(len(before), 1), torch.ones(1, before.shape[1])
    name = f"lora_unet_{low.replace('.', '_')}"
    lora = {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
    hooks = comfy.hooks.create_hook_lora(lora, 1.0, 1.0)
    changed = changed.clone()
    changed.patch_model(device_to=small.CPU)
    changed.register_all_hook_patches(hooks, comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Model))
    changed.patch_hooks(hooks)
    assert key in changed.backup and key in changed.hook_backup
    same = torch.equal(network.number(model, key), before)
    changed.unpatch_hooks()
    changed.unpatch_model(device_to=small.CPU)
    return same


@torch.inference_mode()
def main() -> dict[str, Any]:
    model, clip = small.FAMILIES["SD 1"]()
    found: dict[str, Any] = {"clips": clips(model, clip)}
    found["lists"] = [asked(model, clip), asked(model, clip, everyday="a boat\n")]
    many = "\n".join(
        f"a {thing} -> a wet {thing}" for thing in ("bird", "boat", "book", "car", "cat", "dog", "hat", "owl", "vase")
    )
    found["lines"] = solving.solved(model, clip, many).sentence.splitlines()
    found["brackets"] = solving.solved(model, clip, "a (wet:1.3) cat -> a (wet:1.3) red cat").sentence
    found["fingerprints"] = fingerprints(model, clip)
    found["embedding"] = embedding(model, clip)
    changed, delta = edit(model, clip, many, 1.0)
    found["saved"] = saved(model, delta)
    found["hooked"] = hooked(model, changed)
    linked = small.pack.EditAssumption.IS_CHANGED(model=None, clip=None, text=None, strength=1.0)
    found["linked"] = [linked, small.pack.ApplyToModel.IS_CHANGED(model=None, delta=None, strength=1.0)]
    return found


print(json.dumps(main()))
