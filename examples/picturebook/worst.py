"""The everyday prompts that edits move most, drawn: what `timecli verify` calls *worst*, of many manifests.

    python worst.py bench/init/*.toml [--seeds 4]

Of every manifest the eight everyday prompts that are forecast to move most and eight others, 4 steps, guidance 3.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

import torch

from timecli.drawing import edited
from timecli.drawing.judge import load_judge
from timecli.drawing.likeness import between_seeds, likeness
from timecli.drawing.networks import network_of
from timecli.drawing.render import load_pipeline, render, replaced, settings
from timecli.editing import compiling, preview
from timecli.manifests import manifest
from timecli.manifests.rows import everyday_rows, rows
from timecli.models.checkpoint import open_checkpoint
from timecli.text import everyday
from timecli.text.encoding import read_text_encoder

HERE = Path(__file__).parent
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    wanted = parser.parse_args()
    checkpoint = open_checkpoint(HERE / "picturebook.safetensors")
    encoder = read_text_encoder(checkpoint, None, CPU)
    pipeline, judge = load_pipeline(checkpoint, encoder, CPU), load_judge(HERE / "judge", CPU)
    how, unedited, world, found = settings(wanted.seeds, 4, 3.0), {}, None, []
    for path in wanted.manifests:
        task = manifest.load(path)
        world = world or everyday.measured(task, encoder)
        delta = compiling.compile_edit(task, checkpoint, encoder, CPU, world)
        moving = preview.moving(task, checkpoint, encoder, [delta], world)
        table = everyday_rows(compiling.listed(task, encoder), rows(task), moving)
        left = [row.prompt for row in table if row.prompt not in unedited]
        images = render(pipeline, left, how, lambda _: None) if left else {}
        unedited |= {prompt: judge.seen(pictures) for prompt, pictures in images.items()}
        with replaced(network_of(pipeline), edited.edited_matrices(delta, checkpoint, CPU)):
            after = judge.seeing(render(pipeline, [row.prompt for row in table], how, lambda _: None))
        likes = [(fmean(likeness(row, unedited.__getitem__, after) or []), row) for row in table]
        least, row = min(likes, key=lambda one: one[0])
        other = fmean(between_seeds(row, unedited.__getitem__) or [])
        everyone = fmean(fmean(between_seeds(one, unedited.__getitem__) or []) for one in table)
        found.append((least, other, everyone, fmean(like for like, _ in likes)))
        print(f"{task.name}: {least:.3f} {row.prompt!r}, another seed {other:.3f}", flush=True)
    least, other, everyone, kept = (fmean(column) for column in zip(*found, strict=True))
    print(f"worst {least:.3f}, least {min(one[0] for one in found):.3f}; another seed of the same prompts {other:.3f}")
    print(f"all sixteen: {kept:.3f}, another seed {everyone:.3f}; edits: {len(found)}")


if __name__ == "__main__":
    main()
