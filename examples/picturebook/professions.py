"""Professions debiased together: how far the shares of women are from a half, of twelve models or of one.

    python professions.py bench/tuned/people/*.toml            # one joint edit
    python professions.py --alone bench/tuned/people/*.toml    # each in a model of its own

Draws the prompts of every balance, 24 seeds, 4 steps, guidance 3, and prints Δ as `timecli bench` does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean

import torch

from timecli.drawing.render import render, settings
from timecli.editing import compiling
from timecli.manifests import balances, manifest
from timecli.manifests.company import joined
from timecli.measuring import shares
from timecli.measuring.rivals import Change
from timecli.measuring.studio import open_studio
from timecli.models.checkpoint import open_checkpoint
from timecli.text.encoding import read_text_encoder

HERE = Path(__file__).parent
CPU = torch.device("cpu")


def main() -> None:
    alone = "--alone" in sys.argv
    tasks = [manifest.load(Path(path)) for path in sys.argv[1:] if path != "--alone"]
    checkpoint = open_checkpoint(HERE / "picturebook.safetensors")
    encoder = read_text_encoder(checkpoint, None, CPU)
    studio = open_studio(checkpoint, encoder, HERE / "judge", settings(24, 4, 3.0), CPU)
    found = []
    for together in [[task] for task in tasks] if alone else [tasks]:
        delta = compiling.compile_edit(joined(together), checkpoint, encoder, CPU)
        prompts = [prompt for task in together if task.balance for prompt in task.balance.prompts]
        with studio.edited(Change(delta=delta)):
            answer = studio.judge.asked(render(studio.pipeline, prompts, studio.settings, lambda _: None))
        for task in together:
            assert task.balance is not None
            drawn = [answer(prompt, balances.worded(task, prompt)) for prompt in task.balance.prompts]
            found.append(shares.counted(task, drawn))
            print(f"| {task.name} | {found[-1].share:.1%} | {shares.spread(found[-1].deltas)} |", flush=True)
    parts = zip(*(one.deltas for one in found), strict=True)
    print(f"| **all** | | **{shares.spread([fmean(part) for part in parts])}** |")


if __name__ == "__main__":
    main()
