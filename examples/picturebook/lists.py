"""How long a list of everyday prompts must be: forecasts for the validation edits with parts of picturebook's list.

    python lists.py

Every size is that of three random parts of the list; the pair alone, the default's weight and wordings, no picture.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import torch

from timecli.editing import compiling, preview
from timecli.manifests import manifest
from timecli.measuring.schedule import Configuration
from timecli.models.checkpoint import open_checkpoint
from timecli.text import everyday
from timecli.text.encoding import read_text_encoder

HERE = Path(__file__).parent
CPU = torch.device("cpu")
SHOWN = ("efficacy", "generality", "specificity", "explicit", "kept")


def main() -> None:
    checkpoint = open_checkpoint(HERE / "picturebook.safetensors")
    encoder = read_text_encoder(checkpoint, None, CPU)
    tasks = [
        Configuration("everyday").applied(manifest.load(path)) for path in (HERE / "bench/validation").glob("*.toml")
    ]
    prompts = everyday.prompts(tasks[0], encoder)[:-1]
    whole = everyday.kept(tasks[0], encoder, everyday.cache())
    print(f"| prompts | {' | '.join(SHOWN)} |\n|---{'|---' * len(SHOWN)}|")
    for size in (4, 8, 16, 32, 64, len(prompts)):
        found = []
        for seed in range(3 if size < len(prompts) else 1):
            part = random.Random(seed).sample(prompts, size)
            with TemporaryDirectory() as folder:
                (Path(folder) / "part.txt").write_text("\n".join(part))
                preserve = replace(tasks[0].preserve, everyday="part.txt")
                world = everyday.measured(replace(tasks[0], preserve=preserve, folder=Path(folder)), encoder)
            for task in tasks:
                delta = compiling.compile_edit(task, checkpoint, encoder, CPU, world)
                found.append(preview.preview(task, checkpoint, encoder, delta, whole).metrics)
        print(f"| {size} | {' | '.join(f'{fmean(one[name] for one in found):.3f}' for name in SHOWN)} |", flush=True)


if __name__ == "__main__":
    main()
