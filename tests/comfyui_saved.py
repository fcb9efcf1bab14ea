"""Run beside a checkout of ComfyUI, with a family's name and a folder: what 'Save the edit' writes, and what takes it.

Prints a JSON object of distances, in lengths of the way that the edit goes, and of what is said to what does not fit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfyui_small as small

# isort: split
import comfy.supported_models as models
import folder_paths
import utils.install_util  # noqa: F401  before nodes, as main.py does

# isort: split
import nodes as own
import torch

from timecli.editing.delta import Delta, Origin, save_delta
from timecli.editing.solve import Operator

family, place = small.ARGUMENTS[0], Path(small.ARGUMENTS[1])
TEXT = 'a rose -> a blue rose : 0.5\na cat -> a "green" cat'
UNETS = {"SDXL": (models.SDXL, small.SDXL), "FLUX.1": (models.Flux, {**small.FLUX, "context_in_dim": 32})}
UNETS |= {"Qwen-Image": (models.QwenImage, small.QWEN), "Chroma": (models.Chroma, small.CHROMA)}


def foreign() -> dict[str, str]:
    """What 'Apply a delta' says of deltas that were made for other models."""
    random = torch.Generator().manual_seed(1)

    def applied(name: str, normed: bool, **widths: int) -> str:
        made = {
            stream: Operator(torch.randn(d, 2, generator=random), torch.randn(2, d, generator=random), 1.0)
            for stream, d in widths.items()
        }
        origin = Origin("roses", "", "0", "", (0.1,), ("k", "v"), None, (), behind_norm=normed)
        save_delta(Delta(made, origin), place / "timecli" / "other.delta")
        return small.said(small.pack.ApplyToModel().apply, small.model(*UNETS[name])[1], "other.delta", 1.0)

    return {
        "another width": applied("SDXL", False, text=24),
        "no vector": applied("Chroma", False, text=24, pooled=24),
        "before a norm": applied("Qwen-Image", False, text=32),
        "behind a norm": applied("FLUX.1", True, text=32),
        "the control": applied("Qwen-Image", True, text=32),
    }


@torch.inference_mode()
def main() -> dict[str, Any]:
    for name in ("timecli", "loras"):
        (place / name).mkdir()
        folder_paths.folder_names_and_paths[name] = ([str(place / name)], {".safetensors", ".delta"})
    patcher, clip = small.FAMILIES[family]()
    save = small.pack.SaveEdit().save
    changed, edit = small.pack.EditAssumption().edit(patcher, clip, TEXT, 1.0)
    _, other = small.pack.EditAssumption().edit(patcher, clip, "a rose -> a red rose", 1.0)
    written = save(edit, "blue", True, patcher)["ui"]["text"]
    (by_lora, _) = own.LoraLoader().load_lora(patcher, clip, "blue.safetensors", 1.0, 0.0)
    by_file, again = small.pack.ApplyToModel().apply(patcher, "blue.delta", 1.0)
    texts = [small.conditioning(clip, prompt) for prompt in ("a rose in the snow", "")]
    plain, wanted = (small.drawn(one, *texts) for one in (patcher, changed))
    way = (wanted - plain).norm()
    return {
        "written": written,
        "lora": float((small.drawn(by_lora, *texts) - wanted).norm() / way),
        "delta": float((small.drawn(by_file, *texts) - wanted).norm() / way),
        "maps": [len(by_lora.patches), len(changed.patches)],
        "same": again.origin == edit.origin,
        "twice": small.said(save, edit, "blue", True, patcher),
        "replaced": small.said(save, other, "blue", False),
        "no model": small.said(save, edit, "red", True),
        "odd names": [small.said(save, edit, name, False) for name in ("", "../x", "a/b", ".x")],
        "files": sorted(path.name for path in place.glob("*/*")),
        "foreign": foreign() if family == "SD 1" else {},
    }


print(json.dumps(main()))
