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

HERE = Path(__file__).parent
LIMIT = 64e6  # bytes that all of it may take
SCHEDULERS = {"pndm": (PNDMScheduler, {"skip_prk_steps": True}), "ddim": (DDIMScheduler, {"clip_sample": False})}

# ---------------------------------------------------------------------------------------------------------------------
# Names: diffusers' -> LDM's, as tables of what a name begins with. What follows is the same in both.

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_RESNET = {name: name for name in ("norm1", "conv1", "norm2", "conv2")} | {"conv_shortcut": "nin_shortcut"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def block(name: str, ldm_name: str, layers: dict[str, str]) -> dict[str, str]:
    """The rows of a table for one block whose layers have other names too."""
    return {f"{name}.{layer}": f"{ldm_name}.{ldm_layer}" for layer, ldm_layer in layers.items()}


def unet_table() -> dict[str, str]:
    """LDM numbers the blocks of each half in one row; its input block 0 is the first convolution."""
    table = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "mid_block.attentions.0": "middle_block.1",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        **block("mid_block.resnets.0", "middle_block.0", RESNET),
        **block("mid_block.resnets.1", "middle_block.2", RESNET),
    }
    for level in range(4):
        for layer in range(2):  # two layers and a downsampler are three input blocks
            old, new = f"down_blocks.{level}", f"input_blocks.{1 + 3 * level + layer}"
            table |= block(f"{old}.resnets.{layer}", f"{new}.0", RESNET)
            table[f"{old}.attentions.{layer}"] = f"{new}.1"
        table[f"{old}.downsamplers.0.conv"] = f"input_blocks.{3 + 3 * level}.0.op"
        for layer in range(3):  # an upsampler stands in the output block of its last layer
            old, new = f"up_blocks.{level}", f"output_blocks.{3 * level + layer}"
            table |= block(f"{old}.resnets.{layer}", f"{new}.0", RESNET)
            table[f"{old}.attentions.{layer}"] = f"{new}.1"
        table[f"{old}.upsamplers.0.conv"] = f"{new}.{1 if level == 0 else 2}.conv"  # level 0 has no attention before it
    return table


def vae_table() -> dict[str, str]:
    """LDM counts the levels of the decoder from the smallest stride, diffusers from the largest."""
    table = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half in ("encoder", "decoder"):
        table |= {f"{half}.conv_in": f"{half}.conv_in", f"{half}.conv_out": f"{half}.conv_out"}
        table[f"{half}.conv_norm_out"] = f"{half}.norm_out"
        table |= block(f"{half}.mid_block.attentions.0", f"{half}.mid.attn_1", VAE_ATTENTION)
        for layer in range(2):
            table |= block(f"{half}.mid_block.resnets.{layer}", f"{half}.mid.block_{layer + 1}", VAE_RESNET)
    for level in range(4):
        for layer in range(2):
            table |= block(
                f"encoder.down_blocks.{level}.resnets.{layer}", f"encoder.down.{level}.block.{layer}", VAE_RESNET
            )
        for layer in range(3):
            table |= block(
                f"decoder.up_blocks.{level}.resnets.{layer}", f"decoder.up.{3 - level}.block.{layer}", VAE_RESNET
            )
        table[f"encoder.down_blocks.{level}.downsamplers.0.conv"] = f"encoder.down.{level}.downsample.conv"
        table[f"decoder.up_blocks.{level}.upsamplers.0.conv"] = f"decoder.up.{3 - level}.upsample.conv"
    return table


TEXT_TABLE = {name: f"text_model.{name}" for name in ("embeddings", "encoder", "final_layer_norm")}
PARTS = {
    # part of the pipeline -> (what its LDM names begin with, table, number of tensors in SD 1.x or None)
    "unet": ("model.diffusion_model", unet_table(), 686),
    "vae": ("first_stage_model", vae_table(), 248),
    "text_encoder": ("cond_stage_model.transformer", TEXT_TABLE, None),  # the number depends on its depth
}


def ldm_name(name: str, table: dict[str, str]) -> str:
    """The LDM name of a tensor, by the longest beginning that is in the table."""
    words = name.split(".")
    for end in range(len(words), 0, -1):
        beginning = ".".join(words[:end])
        if beginning in table:
            return ".".join([table[beginning], *words[end:]])
    raise KeyError(f"no rule for {name}")


def to_ldm(part: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of one part in fp16, by LDM names."""
    prefix, table, count = PARTS[part]
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        half = tensor.half()
        if not half.isfinite().all():
            raise ValueError(f"{part}: {name} does not fit into fp16")
        if ".mid.attn_1." in (new := f"{prefix}.{ldm_name(name, table)}") and half.ndim == 2:
            half = half[:, :, None, None]  # LDM's autoencoder attends by 1 x 1 convolutions
        renamed[new] = half.contiguous()
    if len(renamed) != len(tensors) or len(renamed) != (count or len(renamed)):
        raise ValueError(f"{part}: {len(tensors)} tensors became {len(renamed)} names; SD 1.x has {count}")
    return renamed


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
        tensors |= to_ldm(part, getattr(pipeline, part).state_dict())
    save_file(tensors, args.out / "picturebook.safetensors", metadata={"format": "pt"})
    write_config(pipeline, args.work, args.out / "config")
    write_judge(judge, args.work, args.out / "judge")
    verify(args.out, pipeline, judge)


if __name__ == "__main__":
    main()
