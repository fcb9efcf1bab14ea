"""Train picturebook from nothing: tokenizer, judge (CLIP), autoencoder, UNet, and the judge's eyes a little longer.

    python train.py                 # everything, resuming where it was stopped
    python train.py --stage judge   # one stage only

Each stage writes to the work folder (`.train/` beside this file) every two minutes and goes on from there when it is
started again. `ship.py` turns a finished work folder into the files of the model card.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import CLIPTokenizer

import phrases
import world
from fit import device, finished, fit
from models import make_autoencoder, make_judge, make_noise_schedule, make_tokenizer, make_unet

HERE = Path(__file__).parent
CAPTION_TOKENS = 20
"""No caption of the world is longer; the padding behind it cannot reach the judge's loss (the tower is causal)."""


def draw_batch(first: int, count: int, twins: bool = False) -> tuple[list[str], torch.Tensor]:
    """Pictures number `first` onwards: captions and [count, 3, 64, 64] float32 in -1..1. The number is the seed.

    With `twins`, every other picture is its neighbour with one attribute changed.
    """
    captions, pictures = [], []
    for number in range(first, first + count):
        rng = random.Random(number - number % 2 if twins else number)
        caption, request = phrases.sample(rng)
        if twins and number % 2:
            request = phrases.vary(request, rng)
            caption = phrases.caption(request, rng)
        captions.append(caption)
        pictures.append(np.asarray(world.draw(world.imagine(request, rng), rng)))
    return captions, torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def roughen(pixels: torch.Tensor) -> torch.Tensor:
    """Blur half of a batch and add noise, so that the judge does not mind the softness of generated pictures."""
    half = len(pixels) // 2
    soft = F.avg_pool2d(F.pad(pixels[:half], (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    rough = torch.cat([soft, pixels[half:]])
    return rough + 0.06 * torch.rand(len(rough), 1, 1, 1) * torch.randn_like(rough)


def train_judge(work: Path, steps: int, batch: int, eyes: bool = False) -> None:
    """The judge, or with `eyes` its image tower only: the text tower must stay as the UNet knows it."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    judge = make_judge(tokenizer)
    if eyes:
        judge = finished("judge", judge, work)
        judge.text_model.requires_grad_(False)
        judge.text_projection.requires_grad_(False)
    first = 5_000_000 if eyes else 0

    def loss_at(step: int) -> torch.Tensor:
        captions, pixels = draw_batch(first + step * batch, batch, twins=True)
        tokens = tokenizer(captions, padding="max_length", max_length=CAPTION_TOKENS, return_tensors="pt").input_ids
        with torch.autocast(device().type, torch.bfloat16):
            return judge(
                input_ids=tokens.to(device()), pixel_values=roughen(pixels).to(device()), return_loss=True
            ).loss

    fit("eyes" if eyes else "judge", judge, loss_at, steps, 5e-4 if eyes else 1e-3, work, average=0.99)


def train_autoencoder(work: Path, steps: int, batch: int) -> None:
    autoencoder = make_autoencoder()

    def loss_at(step: int) -> torch.Tensor:
        pixels = draw_batch(10_000_000 + step * batch, batch)[1].to(device())
        with torch.autocast(device().type, torch.bfloat16):
            latents = autoencoder.encode(pixels).latent_dist
            output = autoencoder.decode(latents.sample()).sample
        miss = output.float() - pixels
        hue = miss - miss.mean(1, keepdim=True)
        # Absolute error keeps edges sharp; hue has a weight of its own, being what edits are judged by; a touch of KL
        # keeps the latents near unit scale.
        return miss.square().mean() + 0.2 * miss.abs().mean() + 2 * hue.square().mean() + 1e-6 * latents.kl().mean()

    fit("autoencoder", autoencoder, loss_at, steps, 2e-3, work, average=0.99)


@torch.no_grad()
def make_latents(work: Path, count: int) -> tuple[torch.Tensor, list[str]]:
    """Latents [count, 4, 8, 8] of the pictures that the UNet sees, and their captions."""
    autoencoder = finished("autoencoder", make_autoencoder(), work)
    captions, latents = [], []
    for first in range(0, count, 500):
        words, pixels = draw_batch(20_000_000 + first, 500)
        captions += words
        latents.append(autoencoder.encode(pixels.to(device())).latent_dist.mode().cpu())
        print(f"latents {first + 500}/{count}", flush=True)
    return torch.cat(latents), captions


@torch.no_grad()
def make_embeddings(work: Path, texts: list[str]) -> torch.Tensor:
    """The frozen text encoder's output [texts, 77, 192] in bfloat16."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    judge = finished("judge", make_judge(tokenizer), work)
    embeddings = []
    for first in range(0, len(texts), 250):
        tokens = tokenizer(
            texts[first : first + 250], padding="max_length", max_length=77, return_tensors="pt"
        ).input_ids
        embeddings.append(judge.text_model(tokens.to(device())).last_hidden_state.bfloat16().cpu())
    return torch.cat(embeddings)


def train_unet(work: Path, steps: int, batch: int, pictures: int) -> None:
    cache = work / "latents.pt"
    if not cache.exists():
        torch.save(make_latents(work, pictures), f"{cache}.part")
        Path(f"{cache}.part").replace(cache)
    latents, captions = torch.load(cache, weights_only=True)
    scale = 1 / latents.std().item()
    (work / "scaling_factor.txt").write_text(f"{scale:.5f}\n")
    texts = {
        caption: i for i, caption in enumerate(dict.fromkeys(["", *captions]))
    }  # 0 is for classifier-free guidance
    embeddings, numbers = make_embeddings(work, list(texts)), torch.tensor([texts[caption] for caption in captions])
    schedule, unet = make_noise_schedule(), make_unet()

    def loss_at(step: int) -> torch.Tensor:
        chosen = torch.randint(len(latents), (batch,))
        caption = torch.where(torch.rand(batch) < 0.1, 0, numbers[chosen])
        clean, context = (latents[chosen] * scale).to(device()), embeddings[caption].float().to(device())
        noise, times = torch.randn_like(clean), torch.randint(1000, (batch,), device=clean.device)
        guess = unet(schedule.add_noise(clean, noise, times), times, context).sample
        ratio = (schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)).to(clean.device)[times]
        # Min-SNR weighting (Hang et al. 2023, gamma 5): the nearly clean steps must not crowd out the others.
        weight = ratio.clamp(max=5) / ratio
        return (weight * F.mse_loss(guess, noise, reduction="none").mean((1, 2, 3))).mean()

    fit("unet", unet, loss_at, steps, 1e-3, work, average=0.998)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=["all", "judge", "autoencoder", "unet", "eyes"], default="all")
    parser.add_argument("--work", type=Path, default=HERE / ".train")
    parser.add_argument("--judge-steps", type=int, default=3000)
    parser.add_argument("--autoencoder-steps", type=int, default=3500)
    parser.add_argument("--unet-steps", type=int, default=6000)
    parser.add_argument("--eyes-steps", type=int, default=500)
    parser.add_argument("--pictures", type=int, default=80_000, help="pictures that the UNet sees")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if not (args.work / "tokenizer").exists():
        make_tokenizer(args.work / "tokenizer")
    torch.manual_seed(0)
    if args.stage in ("all", "judge"):
        train_judge(args.work, args.judge_steps, batch=128)
    if args.stage in ("all", "autoencoder"):
        train_autoencoder(args.work, args.autoencoder_steps, batch=8)
    if args.stage in ("all", "unet"):
        train_unet(args.work, args.unet_steps, batch=64, pictures=args.pictures)
    if args.stage in ("all", "eyes"):
        train_judge(args.work, args.eyes_steps, batch=128, eyes=True)


if __name__ == "__main__":
    main()
