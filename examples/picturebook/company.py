"""Several edits in one model: before, one after the other, and as one joint edit; a sheet, from the same seeds.

python company.py ../../docs/company.png ../../edits/picturebook/{green-dogs,red-cars,white-hats,space-pigs}.toml

The rows are the sources of all edits, and the everyday prompts that the joint edit moves most.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from timecli.drawing import report, verify
from timecli.drawing.render import Settings, load_pipeline, render, replaced
from timecli.editing import applying, compiling, preview
from timecli.editing.delta import Delta
from timecli.manifests.company import joined
from timecli.manifests.manifest import load
from timecli.manifests.rows import Row
from timecli.models import streams
from timecli.models.checkpoint import open_checkpoint
from timecli.text import everyday
from timecli.text.encoding import read_text_encoder

HERE = Path(__file__).parent
CPU = torch.device("cpu")
DRAWN = Settings((0, 1, 2), 15, 3.0)
MOST = 4
"""Everyday prompts that are shown."""


def main(target: Path, paths: Sequence[Path]) -> None:
    tasks = [load(path) for path in paths]
    together = joined(tasks)
    checkpoint = open_checkpoint(HERE / "picturebook.safetensors")
    encoder = read_text_encoder(checkpoint, None, CPU)
    pipeline = load_pipeline(checkpoint, encoder, CPU)
    world = everyday.measured(together, encoder)
    apart = [compiling.compile_edit(task, checkpoint, encoder, CPU, world) for task in tasks]
    joint = compiling.compile_edit(together, checkpoint, encoder, CPU, world)
    moving = preview.moving(together, checkpoint, encoder, [joint], world)[:MOST]
    table = [Row("source", task.edits[0].source, task.edits[0].destination) for task in tasks]
    table += [Row("everyday", prompt, None) for prompt in moving]

    def drawn(deltas: Sequence[Delta]) -> verify.Images:
        edited = applying.edit_matrices(checkpoint, deltas, CPU).tensors
        places = [place for place in checkpoint.places if place.key in edited and not place.twin]
        matrices = {place.matrix.names[streams.DIFFUSERS]: edited[place.key] for place in places}
        with replaced(pipeline.unet, matrices):
            return render(pipeline, verify.prompts_after(table), DRAWN, lambda _: None)

    made = {"before": drawn([]), "one after the other": drawn(apart), "one joint edit": drawn([joint])}
    shows = {name: partial(lambda images, row: images[row.prompt], images) for name, images in made.items()}
    report.sheet(table, shows, f"{len(tasks)} edits in one model").save(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
