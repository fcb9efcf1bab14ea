"""Train picturebook from nothing: tokenizer, judge (CLIP), autoencoder, UNet, and the judge's eyes a little longer.

    python train.py                 # everything, resuming where it was stopped
    python train.py --stage judge   # one stage only

Each stage writes to the work folder (`.train/` beside this file) every two minutes and goes on from there when it is
started again. `ship.py` turns a finished work folder into the files of the model card.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

import world

HERE = Path(__file__).parent
WIDTH = 192
"""Width of the text encoder, SD 1.4's 768 in miniature."""
CAPTION_TOKENS = 20
"""No caption of the world is longer; the padding behind it cannot reach the judge's loss (the tower is causal)."""
SAVE_EVERY = 120.0


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# ---------------------------------------------------------------------------------------------------------------------
# Models, all with SD 1.4's topology


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-pair vocabulary in which every word of the world is one token; other words fall into pieces."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=10_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator([" ".join(world.corpus()).lower()], trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocab = {piece: i for i, piece in enumerate([*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    tokenizer.save_pretrained(folder)
    for word in world.corpus():
        for part in word.lower().split():
            if len(tokenizer(part).input_ids) != 3:
                raise RuntimeError(f"the tokenizer splits {part!r}: {tokenizer.tokenize(part)}")
    return tokenizer


def make_judge(tokenizer: CLIPTokenizer) -> CLIPModel:
    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": WIDTH // 64,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "projection_dim": 128,
        **ends,
    }
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": world.SIZE,
        "patch_size": 8,
        "projection_dim": 128,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


def make_autoencoder() -> AutoencoderKL:
    """Four channels to a norm's group: a group of one would wipe out the colour of large areas."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=world.SIZE,
    )


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=world.SIZE // 8,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(64, 96, 128, 128),
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def make_noise_schedule() -> DDPMScheduler:
    """SD 1.4's: 1000 steps, scaled-linear betas."""
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def draw_batch(first: int, count: int, twins: bool = False) -> tuple[list[str], torch.Tensor]:
    """Pictures number `first` onwards: captions and [count, 3, 64, 64] float32 in -1..1. The number is the seed.

    With `twins`, every other picture is its neighbour with one attribute changed.
    """
    captions, pictures = [], []
    for number in range(first, first + count):
        rng = random.Random(number - number % 2 if twins else number)
        caption, request = world.sample(rng)
        if twins and number % 2:
            request = world.vary(request, rng)
            caption = world.caption(request, rng)
        captions.append(caption)
        pictures.append(np.asarray(world.draw(world.imagine(request, rng), rng)))
    return captions, torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def roughen(pixels: torch.Tensor) -> torch.Tensor:
    """Blur half of a batch and add noise, so that the judge does not mind the softness of generated pictures."""
    half = len(pixels) // 2
    soft = F.avg_pool2d(F.pad(pixels[:half], (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    rough = torch.cat([soft, pixels[half:]])
    return rough + 0.06 * torch.rand(len(rough), 1, 1, 1) * torch.randn_like(rough)


# ---------------------------------------------------------------------------------------------------------------------
# Stages


class Muon(torch.optim.Optimizer):
    """Momentum whose every matrix is orthogonalised before the step (Jordan et al. 2024).

    Adam learns what is rare in the pictures (colour, beside light and dark) many times slower here. torch.optim.Muon
    takes matrices only; most of these weights are convolutions.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], lr: float):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 0.05)
                update = orthogonal(weight.grad.lerp(momentum, 0.95).flatten(1))
                weight.mul_(1 - 0.01 * group["lr"])
                # The usual size of an Adam step, so that both take the same learning rate (Liu et al. 2025).
                weight.add_(update.view_as(weight), alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Nearly U Vᵀ of the singular value decomposition, by five Newton-Schulz steps in bfloat16."""
    x = matrix.bfloat16()
    x = x.T if x.shape[0] > x.shape[1] else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)


def make_optimizers(model: torch.nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for weights, Adam for embeddings, norms and biases."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    weights = [p for p in model.parameters() if p.ndim in (2, 4) and id(p) not in embeddings]
    chosen = {id(p) for p in weights}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [Muon(weights, lr=rate), torch.optim.AdamW(others, lr=rate, weight_decay=0.01)]


def fit(
    name: str,
    model: torch.nn.Module,
    loss_at: Callable[[int], torch.Tensor],
    steps: int,
    rate: float,
    work: Path,
    average: float = 0.0,
) -> None:
    """Warm-up and cosine, resumable. The weights that are kept are a moving average with factor `average`."""
    path = work / f"{name}.pt"
    model.to(device()).train()
    optimizers = make_optimizers(model, rate)
    mean = {key: value.clone() for key, value in model.state_dict().items()}
    step = 0
    if path.exists():
        state = torch.load(path, map_location=device(), weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        mean, step = state["mean"], state["step"]
    started, saved, first, recent = time.time(), time.time(), step, []
    while step < steps:
        torch.manual_seed(step)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = (
                rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            )
        loss = loss_at(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad()
        step += 1
        keep = min(average, step / (step + 10))
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if value.is_floating_point():
                    mean[key].lerp_(value, 1 - keep)
        recent.append(loss.item())
        if step % 50 == 0:
            left = (time.time() - started) / (step - first) * (steps - step)
            print(f"{name} {step}/{steps} loss {np.mean(recent):.4f}, {left / 60:.0f} min left", flush=True)
            recent = []
        if time.time() - saved > SAVE_EVERY or step == steps:
            kept = [optimizer.state_dict() for optimizer in optimizers]
            torch.save({"model": model.state_dict(), "optimizers": kept, "mean": mean, "step": step}, f"{path}.part")
            Path(f"{path}.part").replace(path)
            saved = time.time()
    model.load_state_dict(mean)
    model.eval()


def finished(name: str, model: torch.nn.Module, work: Path) -> torch.nn.Module:
    """`model` with what `fit` has kept so far."""
    model.load_state_dict(torch.load(work / f"{name}.pt", map_location=device(), weights_only=True)["mean"])
    return model.to(device()).eval()


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
