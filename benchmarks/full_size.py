"""Write a full-size Stable Diffusion 1.x file with random weights: real names, shapes and bytes, no real pictures.

`run.py` has a folder of SDXL from here, too.

python benchmarks/full_size.py sd14.safetensors               # fp32, 4.27 GB
python benchmarks/full_size.py sd14.safetensors --dtype fp16  # 2.13 GB
"""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib import resources
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from timecli.files.tensors import DTYPES
from timecli.models import layouts, streams

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "picturebook"))
from ldm import to_ldm

DATA = Path(str(resources.files("timecli"))) / "data"
CONFIGS = DATA / "sd1"


def sd1(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The 1131 tensors of a pruned SD 1.x file, as diffusers and transformers initialise them with seed 0."""
    torch.manual_seed(0)
    parts = {
        "unet": UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(CONFIGS / "unet")),
        "vae": AutoencoderKL.from_config(AutoencoderKL.load_config(CONFIGS / "vae")),
        "text_encoder": CLIPTextModel(CLIPTextConfig.from_pretrained(CONFIGS / "text_encoder")),
    }
    tensors = {}
    for part, model in parts.items():
        state = {name.removeprefix("text_model."): tensor.to(dtype) for name, tensor in model.state_dict().items()}
        tensors |= to_ldm(part, state)
    return tensors | {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}


def sdxl(folder: Path) -> Path:
    """A folder in fp16 of what an edit of SDXL reads, 2.1 GB: both text encoders, and the 141 maps of its UNet."""
    shutil.copytree(DATA / "sdxl", folder)
    torch.manual_seed(0)
    for name, kind in (("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection)):
        kind(CLIPTextConfig.from_pretrained(folder / name)).half().save_pretrained(folder / name)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")).state_dict()
    maps = {}
    for name in (matrix.names[streams.DIFFUSERS] for matrix in layouts.SDXL.matrices):
        rows, columns = unet[name].shape
        maps[name] = torch.nn.Linear(columns, rows, bias=False).weight.detach().half()
    save_file(maps, folder / "unet" / "diffusion_pytorch_model.safetensors")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    args = parser.parse_args()
    save_file(sd1(DTYPES[args.dtype]), args.output, {"format": "pt"})


if __name__ == "__main__":
    main()
