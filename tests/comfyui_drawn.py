"""Run beside a checkout of ComfyUI, with a folder: the node's edit of picturebook, drawn by ComfyUI's own sampler.

The same noise and the same delta by diffusers, with which `timecli verify` draws, stand beside it. Writes `drawn.png`,
with a row for each of them, and prints how far they are from each other.
"""

from __future__ import annotations

import json
from pathlib import Path

import comfyui_small as small

# isort: split
import comfy.sample
import comfyui_picturebook as picturebook
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from timecli_nodes import saving

import timecli

place = Path(small.ARGUMENTS[0])
FILE = picturebook.FOLDER / "picturebook.safetensors"
TEXT, PROMPTS, SEEDS, STEPS, GUIDANCE = "A rose -> A blue rose", ("A rose", "A dog"), 3, 20, 7.5


def noise(seed: int) -> torch.Tensor:
    return comfy.sample.prepare_noise(torch.zeros(SEEDS, 4, 8, 8), seed)


@torch.inference_mode()
def by_comfyui() -> tuple[dict[str, list[torch.Tensor]], Path]:
    """Pictures `[n, 64, 64, 3]` of every prompt, before and after, and the delta."""
    model, clip, vae = picturebook.load(FILE)
    changed, edit = small.pack.EditAssumption().edit(model, clip, TEXT, 1.0)
    (written,) = saving.save(edit, str(place / "rose.delta"))
    found: dict[str, list[torch.Tensor]] = {"before": [], "after": []}
    for number, prompt in enumerate(PROMPTS):
        texts = [small.conditioning(clip, one) for one in (prompt, "")]
        for name, one in (("before", model), ("after", changed)):
            latent = comfy.sample.sample(
                one, noise(number), STEPS, GUIDANCE, "ddim", "ddim_uniform", *texts, torch.zeros(SEEDS, 4, 8, 8),
                disable_pbar=True, seed=number,
            )  # fmt: skip
            found[name].append(vae.decode(latent).float())
    return found, Path(written)


@torch.no_grad()
def by_diffusers(delta: Path) -> list[torch.Tensor]:
    """The same, of the file that timecli edits with the delta."""
    timecli.apply(load_delta(delta), timecli.open_model(FILE), place / "edited.safetensors", dtype=torch.float32)
    pipeline = StableDiffusionPipeline.from_single_file(
        str(place / "edited.safetensors"), config=str(picturebook.FOLDER / "config"), local_files_only=True,
        safety_checker=None, torch_dtype=torch.float32,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return [
        pipeline(
            prompt=[prompt] * SEEDS, num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=noise(number),
            output_type="pt", height=64, width=64,
        ).images.permute(0, 2, 3, 1)
        for number, prompt in enumerate(PROMPTS)
    ]  # fmt: skip


def load_delta(path: Path) -> timecli.api.Delta:
    from timecli.editing import delta

    return delta.load_delta(path)


drawn, delta = by_comfyui()
other = by_diffusers(delta)
rows = [torch.cat([picture for one in row for picture in one], dim=1) for row in (*drawn.values(), other)]
sheet = Image.fromarray((torch.cat(rows).clamp(0, 1) * 255).byte().numpy())
sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(place / "drawn.png")
pairs = list(zip(drawn["before"], drawn["after"], other, strict=True))
print(
    json.dumps(
        {
            "moved": [float((after - before).square().mean().sqrt()) for before, after, _ in pairs],
            "apart": [float((after - same).square().mean().sqrt()) for _, after, same in pairs],
            "bluer": [
                float((after - before)[..., 2].mean() - (after - before)[..., 0].mean()) for before, after, _ in pairs
            ],
        }
    )
)
