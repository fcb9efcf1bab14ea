"""Turn a finished work folder of `train.py` into the files of the model card.

    python ship.py                  # .train/ -> picturebook.safetensors, config/, judge/ beside this file

The model is written as Stable Diffusion 1.x checkpoints are: one file, fp16, with the tensor names of the original
latent-diffusion code (LDM). The last step reads everything back and compares each tensor with the trained one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # what this script reads back must be found on disk

import torch
from diffusers import DDIMScheduler, PNDMScheduler, StableDiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

import fit
import models
import world
from evaluate import Judge, load_pipeline
from ldm import PARTS, to_ldm

HERE = Path(__file__).parent
LIMIT = 64e6  # bytes that all of it may take
SCHEDULERS = {"pndm": (PNDMScheduler, {"skip_prk_steps": True}), "ddim": (DDIMScheduler, {"clip_sample": False})}


def halved(part: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of one part in fp16."""
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    for name, half in halves.items():
        if not half.isfinite().all():
            raise ValueError(f"{part}: {name} does not fit into fp16")
    return halves


def trained(work: Path, scheduler: str) -> tuple[StableDiffusionPipeline, CLIPModel]:
    """The pipeline (the judge's text tower is its text encoder) and the judge, as trained."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    judge = fit.finished("eyes", models.make_judge(tokenizer), work)
    text_encoder = CLIPTextModel(judge.config.text_config)
    text_encoder.load_state_dict(judge.text_model.state_dict())
    vae = fit.finished("autoencoder", models.make_autoencoder(), work)
    vae.register_to_config(scaling_factor=float((work / "scaling_factor.txt").read_text()))
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=fit.finished("unet", models.make_unet(), work),
        scheduler=make_scheduler(scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline.to("cpu"), judge.cpu()


def make_scheduler(kind: str) -> SchedulerMixin:
    """SD 1.4's settings over the schedule of noise that the UNet was trained with."""
    schedule = {key: models.make_noise_schedule().config[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    scheduler, settings = SCHEDULERS[kind]
    return scheduler(**schedule, **settings, steps_offset=1, set_alpha_to_one=False)


def write_tokenizer(work: Path, folder: Path) -> None:
    """The tokenizer as it was trained, and the two files from which older versions of transformers build it."""
    shutil.copytree(work / "tokenizer", folder, dirs_exist_ok=True)
    CLIPTokenizer.from_pretrained(work / "tokenizer").backend_tokenizer.model.save(str(folder))


def write_config(pipeline: StableDiffusionPipeline, work: Path, folder: Path) -> None:
    """What `from_single_file` needs besides the tensors."""
    pipeline.save_config(folder)
    for part in ("unet", "vae", "scheduler"):
        getattr(pipeline, part).save_config(folder / part)
    pipeline.text_encoder.config.save_pretrained(folder / "text_encoder")
    write_tokenizer(work, folder / "tokenizer")


def write_judge(judge: CLIPModel, work: Path, folder: Path) -> None:
    judge.half().save_pretrained(folder)
    write_tokenizer(work, folder)
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": world.SIZE},
        "resample": 3,  # Pillow's bicubic
        "do_center_crop": True,
        "crop_size": {"height": world.SIZE, "width": world.SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,  # to -1..1
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def compare(what: str, shipped: torch.nn.Module, original: torch.nn.Module) -> None:
    """Raises ValueError unless every tensor of `shipped` is the original, rounded to fp16."""
    found, wanted = shipped.state_dict(), original.state_dict()
    wrong = sorted(found.keys() ^ wanted.keys())
    wrong += [
        name for name in wanted.keys() & found.keys() if not torch.equal(found[name].cpu(), wanted[name].half().float())
    ]
    if wrong:
        raise ValueError(f"{what}: {len(wrong)} of {len(wanted)} tensors differ after reading back: {wrong[:3]}")
    print(f"{what}: all {len(wanted)} tensors read back as they were trained, rounded to fp16")


def verify(out: Path, pipeline: StableDiffusionPipeline, judge: CLIPModel) -> None:
    """Load what was written as a user would, compare it, draw one picture, judge it, and weigh the files."""
    shipped: StableDiffusionPipeline = load_pipeline(out / "picturebook.safetensors", out / "config")
    for part in PARTS:
        compare(part, getattr(shipped, part), getattr(pipeline, part))
    critic = Judge(out / "judge")
    compare("judge", critic.model, judge)
    picture = shipped("A red rose", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    critic.choose([picture], ["A red rose", "A blue rose"])  # raises where sizes or the processor's files are wrong
    files = [out / "picturebook.safetensors", *(out / "config").rglob("*.*"), *(out / "judge").rglob("*.*")]
    size = sum(file.stat().st_size for file in files)
    print(f"model {files[0].stat().st_size / 1e6:.1f} MB, with judge and configuration {size / 1e6:.1f} MB")
    if size >= LIMIT:
        raise ValueError(f"together they may take {LIMIT / 1e6:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / ".train")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--scheduler", choices=SCHEDULERS, default="ddim")
    args = parser.parse_args()
    pipeline, judge = trained(args.work, args.scheduler)
    for folder in ("config", "judge"):
        shutil.rmtree(args.out / folder, ignore_errors=True)
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for part in PARTS:
        tensors |= to_ldm(part, halved(part, getattr(pipeline, part).state_dict()))
    save_file(tensors, args.out / "picturebook.safetensors", metadata={"format": "pt"})
    write_config(pipeline, args.work, args.out / "config")
    write_judge(judge, args.work, args.out / "judge")
    verify(args.out, pipeline, judge)


if __name__ == "__main__":
    main()
