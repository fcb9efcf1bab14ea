"""One edit before, as the paper makes it, and as timecli does: a sheet, from the same seeds.

python comparison.py ../../edits/picturebook/yellow-tulips.toml ../../docs/comparison.png
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from timecli.drawing import edited, report, verify
from timecli.drawing.render import Settings, load_pipeline, render, replaced
from timecli.editing import compiling
from timecli.manifests.manifest import Manifest, load
from timecli.manifests.rows import rows
from timecli.measuring.schedule import Configuration
from timecli.models.checkpoint import open_checkpoint
from timecli.text.encoding import read_text_encoder

HERE = Path(__file__).parent
CPU = torch.device("cpu")
DRAWN = Settings((0, 1, 2), 15, 3.0)


def main(path: Path, target: Path) -> None:
    ours = load(path)
    paper = Configuration("time").applied(replace(ours, edits=ours.edits[:1], solve=replace(ours.solve, augment=None)))
    checkpoint = open_checkpoint(HERE / "picturebook.safetensors")
    encoder = read_text_encoder(checkpoint, None, CPU)
    pipeline = load_pipeline(checkpoint, encoder, CPU)
    table = [row for row in rows(ours) if row.kind != "sample"]

    def drawn(task: Manifest | None) -> dict:
        prompts = verify.prompts_after(table)
        if task is None:
            return render(pipeline, prompts, DRAWN, lambda _: None)
        matrices = edited.edited_matrices(compiling.compile_edit(task, checkpoint, encoder, CPU), checkpoint, CPU)
        with replaced(pipeline.unet, matrices):
            return render(pipeline, prompts, DRAWN, lambda _: None)

    tasks = {"before": None, "TIME, as published": paper, "timecli": ours}
    shows = {name: partial(lambda images, row: images[row.prompt], drawn(task)) for name, task in tasks.items()}
    report.sheet(table, shows, f"{ours.edits[0].source}: {ours.edits[0].destination}").save(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
