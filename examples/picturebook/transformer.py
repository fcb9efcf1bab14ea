"""Train picturebook as a diffusion transformer: FLUX.1 in miniature, of the UNet's latents, captions and text encoder.

    python transformer.py           # .train/transformer.pt, goes on where it was stopped
    python transformer.py --ship    # what has been trained so far -> transformer/, a folder for diffusers' FluxPipeline

The autoencoder and the text encoder are the shipped ones. FluxPipeline has two text encoders: picturebook's stands in
both places, and the network reads the second one's 77 states, which are those that the UNet reads.

    pipeline = FluxPipeline.from_pretrained("transformer", torch_dtype=torch.float32)
    pipeline("A blue rose", negative_prompt="", true_cfg_scale=3.0, height=64, width=64, max_sequence_length=77)
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # everything that is needed is on disk

import torch
from diffusers import DiffusionPipeline, FluxPipeline
from torch.nn import functional as F

from evaluate import load_pipeline
from fit import device, finished, fit, make_adam
from models import make_flow_schedule, make_transformer
from ship import compare, halved
from train import draw_batch

HERE = Path(__file__).parent
LIMIT = 25e6  # bytes that the folder may take
POSITIONS = 77
HEAD = 16
"""No caption has more tokens, with its start and its end."""
PADDING = 4
"""Of the padding behind, so many positions are trained on. They stand for all of it."""
CHUNK = 2000
"""So many pictures are drawn at once."""
LEAD = 2
"""So many chunks are there from the start."""
Batch = tuple[torch.Tensor, torch.Tensor]


class Pictures:
    """Pictures as latents [n, 16, 16] and text states [n, 20, 192], kept on disk in chunks.

    A chunk more is drawn every `every` steps, so that training need not wait for all of them.
    """

    def __init__(self, work: Path, pipeline: DiffusionPipeline, count: int, every: int) -> None:
        self.folder, self.pipeline, self.every = work / "chunks", pipeline, every
        self.folder.mkdir(parents=True, exist_ok=True)
        self.chunks = max(1, count // CHUNK)
        self.found: list[Batch] = []
        self.empty = self.states([""], torch.Generator().manual_seed(0))

    @torch.no_grad()
    def states(self, captions: list[str], random: torch.Generator) -> torch.Tensor:
        """What the network is trained on of the frozen text encoder's 77 states, [captions, 20, 192] bfloat16."""
        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        tokens = tokenizer(captions, padding="max_length", max_length=POSITIONS, return_tensors="pt").input_ids
        if (tokens[:, HEAD - 1 :] != tokenizer.pad_token_id).any():
            raise ValueError(f"a caption has more than {HEAD} tokens")
        states = torch.cat(
            [encoder(part.to(device())).last_hidden_state.bfloat16().cpu() for part in tokens.split(250)]
        )
        padding = HEAD + torch.rand(len(tokens), POSITIONS - HEAD, generator=random).argsort(1)[:, :PADDING]
        return torch.cat([states[:, :HEAD], states[torch.arange(len(tokens))[:, None], padding]], 1)

    @torch.no_grad()
    def draw(self, number: int) -> Batch:
        latents, states, few = [], [], min(CHUNK, 250)
        for first in range(number * CHUNK, (number + 1) * CHUNK, few):
            captions, pixels = draw_batch(20_000_000 + first, few)
            clean = self.pipeline.vae.encode(pixels.to(device())).latent_dist.mode().cpu()
            latents.append(pack(clean * self.pipeline.vae.config.scaling_factor))
            states.append(self.states(captions, torch.Generator().manual_seed(first)))
        return torch.cat(latents), torch.cat(states)

    def chunk(self, number: int) -> Batch:
        path = self.folder / f"{number:04}.pt"
        if not path.exists():
            torch.save(self.draw(number), f"{path}.part")
            Path(f"{path}.part").replace(path)
        return tuple(torch.load(path, weights_only=True))

    def batch(self, step: int, count: int) -> Batch:
        """Latents and states of some of the pictures that are there at this step; one caption in ten is empty."""
        while len(self.found) < min(self.chunks, LEAD + step // self.every):
            self.found.append(self.chunk(len(self.found)))
        chosen = torch.randint(CHUNK * len(self.found), (count,)).tolist()
        latents, states = (
            torch.stack([self.found[number // CHUNK][part][number % CHUNK] for number in chosen]) for part in (0, 1)
        )
        states = torch.where(torch.rand(count, 1, 1) < 0.1, self.empty, states)
        return latents.to(device()), states.float().to(device())


def pack(latents: torch.Tensor) -> torch.Tensor:
    """[n, 4, 8, 8] -> [n, 16, 16], a token for 2 x 2 latents, as FluxPipeline packs them."""
    count, channels, height, width = latents.shape
    return FluxPipeline._pack_latents(latents, count, channels, height, width)


def places(texts: int) -> dict[str, torch.Tensor]:
    """Where the tokens are, as FluxPipeline says it: text at the origin, latents on a square."""
    return {
        "txt_ids": torch.zeros(texts, 3, device=device()),
        "img_ids": FluxPipeline._prepare_latent_image_ids(1, 4, 4, device(), torch.float32),
    }


def crowd() -> torch.Tensor:
    """What attention adds to its logits [1, 1, 1, 36], so that a few positions of padding count as much as all."""
    logits = torch.zeros(HEAD + PADDING + 16, device=device())
    logits[HEAD : HEAD + PADDING] = math.log((POSITIONS - HEAD) / PADDING)
    return logits[None, None, None]


def make_loss(transformer: torch.nn.Module, pictures: Pictures, count: int) -> Callable[[int], torch.Tensor]:
    """Rectified flow (Liu et al. 2022), its times logit-normal (Esser et al. 2024)."""
    settings = {**places(HEAD + PADDING), "joint_attention_kwargs": {"attention_mask": crowd()}}

    def loss_at(step: int) -> torch.Tensor:
        clean, states = pictures.batch(step, count)
        noise, times = torch.randn_like(clean), torch.randn(count, device=clean.device).sigmoid()
        guess = transformer(
            hidden_states=torch.lerp(clean, noise, times[:, None, None]),
            timestep=times,
            encoder_hidden_states=states,
            pooled_projections=states[:, 0],  # whatever it says, it is multiplied by zeros
            **settings,
        ).sample
        return F.mse_loss(guess, noise - clean)

    return loss_at


def train(work: Path, steps: int, batch: int, count: int, seed: int = 0) -> None:
    shipped = load_pipeline(HERE / "picturebook.safetensors", HERE / "config").to(device())
    torch.manual_seed(seed)
    transformer = make_transformer()
    # Half of the steps see all of the pictures.
    pictures = Pictures(work, shipped, count, every=max(1, steps * CHUNK // (2 * count)))
    loss_at = make_loss(transformer, pictures, batch)
    fit("transformer", transformer, loss_at, steps, 1.5e-3, work, average=0.998, optimizers_of=make_adam)


def trained(work: Path) -> FluxPipeline:
    """The pipeline of what has been trained so far, in float32."""
    shipped = load_pipeline(HERE / "picturebook.safetensors", HERE / "config")
    shipped.vae.register_to_config(shift_factor=0.0)  # FluxPipeline adds it without asking whether there is one
    return FluxPipeline(
        scheduler=make_flow_schedule(),
        vae=shipped.vae,
        text_encoder=shipped.text_encoder,
        tokenizer=shipped.tokenizer,
        text_encoder_2=shipped.text_encoder,
        tokenizer_2=shipped.tokenizer,
        transformer=finished("transformer", make_transformer(), work).cpu(),
    )


def load_shipped(folder: Path) -> FluxPipeline:
    """The pipeline of the diffusers folder, in float32."""
    return FluxPipeline.from_pretrained(folder, local_files_only=True, torch_dtype=torch.float32)


def ship(work: Path, folder: Path) -> None:
    """Write the diffusers folder in fp16, then read it back, compare it and weigh it."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    pipeline = trained(work)
    halved("transformer", pipeline.transformer.state_dict())
    pipeline.to(torch.float16).save_pretrained(part)
    for name in ("tokenizer", "tokenizer_2"):  # with the two files from which older versions of transformers build it
        shutil.copytree(HERE / "config" / "tokenizer", part / name, dirs_exist_ok=True)
    shutil.copy(HERE / "config" / "everyday.txt", part)  # so that its edits are the UNet's
    shipped, original = load_shipped(part), trained(work)
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        compare(name, getattr(shipped, name), getattr(original, name))
    size = sum(file.stat().st_size for file in part.rglob("*.*"))
    print(f"{size / 1e6:.1f} MB")
    if size >= LIMIT:
        raise ValueError(f"the folder may take {LIMIT / 1e6:.0f} MB")
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / ".train")
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=80_000)
    parser.add_argument("--ship", action="store_true", help="write --out from what has been trained so far")
    parser.add_argument("--out", type=Path, default=HERE / "transformer")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.ship:
        ship(args.work, args.out)
    else:
        train(args.work, args.steps, args.batch, args.pictures)


if __name__ == "__main__":
    main()
