"""A second model with picturebook's text encoder and another UNet, as a fine-tune that somebody else might publish.

    python sibling.py               # .train/sketchbook.safetensors, four minutes on two cores

It goes on from the shipped UNet and learns that everything is a sketch. What was compiled for picturebook fits it:
an edit depends on the text encoder only.

    timecli edit edits/picturebook/blue-roses.toml examples/picturebook/picturebook.safetensors --delta roses.delta
    timecli apply roses.delta examples/picturebook/.train/sketchbook.safetensors -o blue-sketches.safetensors
"""

from __future__ import annotations

import argparse
import os
import random
from dataclasses import replace
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import fit
import phrases
import world
from evaluate import load_pipeline
from ldm import to_ldm
from models import make_noise_schedule
from ship import halved

HERE = Path(__file__).parent
BATCH = 32


def draw_sketches(first: int, count: int) -> tuple[list[str], torch.Tensor]:
    """Captions without a style and pictures [count, 3, 64, 64] that are all sketches."""
    captions, pictures = [], []
    for number in range(first, first + count):
        rng = random.Random(number)
        request = replace(phrases.sample(rng)[1], style=None)
        captions.append(phrases.caption(request, rng))
        pictures.append(np.asarray(world.draw(world.imagine(replace(request, style="sketch"), rng), rng)))
    return captions, torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / ".train")
    parser.add_argument("--steps", type=int, default=160)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    pipeline = load_pipeline(HERE / "picturebook.safetensors", HERE / "config").to(fit.device())
    unet, schedule, scale = pipeline.unet, make_noise_schedule(), pipeline.vae.config.scaling_factor

    optimizer = torch.optim.AdamW(unet.parameters(), lr=2e-4)
    for step in range(args.steps):
        captions, pixels = draw_sketches(30_000_000 + BATCH * step, BATCH)
        with torch.no_grad():
            context = pipeline.encode_prompt(captions, fit.device(), 1, False)[0]
            clean = pipeline.vae.encode(pixels.to(fit.device())).latent_dist.mode() * scale
        noise, times = torch.randn_like(clean), torch.randint(1000, (BATCH,), device=clean.device)
        loss = F.mse_loss(unet(schedule.add_noise(clean, noise, times), times, context).sample, noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 19:
            print(f"step {step + 1}/{args.steps}, loss {loss.item():.4f}", flush=True)
    tensors = load_file(HERE / "picturebook.safetensors")
    tensors |= to_ldm("unet", halved("unet", {name: t.cpu() for name, t in unet.state_dict().items()}))
    save_file(tensors, args.work / "sketchbook.safetensors", {"format": "pt"})


if __name__ == "__main__":
    main()
