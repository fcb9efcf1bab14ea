"""The edits of the benchmark as `timecli init` would write them: with the plural, and with what it preserves.

    python as_init.py        # bench/init from bench/test, bench/init-validation from bench/validation

Neither is in the repository. The tests stay those of the benchmark; some of its negatives are among the neighbours,
and some of its explicit prompts among the other values, that `init` preserves.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from timecli.editing import compiling, neighbours
from timecli.manifests import draft_text, drafts, manifest, wording
from timecli.models.checkpoint import Checkpoint, open_checkpoint
from timecli.text import everyday
from timecli.text.encoding import read_text_encoder
from timecli.text.everyday import Everyday
from timecli.text.readers import TextEncoder

HERE = Path(__file__).parent
CPU = torch.device("cpu")


def rewritten(path: Path, checkpoint: Checkpoint, encoder: TextEncoder, world: Everyday) -> str:
    """A manifest of the benchmark with the second pair and the preserved prompts of `init`."""
    task = manifest.load(path)
    draft = drafts.draft(wording.read(task.edits[0].source, task.edits[0].destination))
    delta = compiling.compile_edit(draft_text.pairs_alone(draft, task.name), checkpoint, encoder, CPU, world)
    draft = neighbours.fitted(draft, delta, checkpoint, encoder, world)
    lines = [f"prompts = {json.dumps(draft.preserved)}", *draft_text.solved(draft)]
    text = task.text.replace("everyday = false", "\n".join(lines))
    for source, destination in draft.second:
        text += f"\n[[edit]]\nsource = {json.dumps(source)}\ndestination = {json.dumps(destination)}\n"
    manifest.parse(text, str(path))
    return text


def main() -> None:
    checkpoint = open_checkpoint(HERE / "picturebook.safetensors")
    encoder = read_text_encoder(checkpoint, None, CPU)
    anything = manifest.parse('name = "x"\n[[edit]]\nsource = "a"\ndestination = "b"\n')
    world = everyday.measured(replace(anything, folder=HERE), encoder)
    for name, source in (("init", "test"), ("init-validation", "validation")):
        target = HERE / "bench" / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for path in sorted((HERE / "bench" / source).glob("*.toml")):
            (target / path.name).write_text(rewritten(path, checkpoint, encoder, world), encoding="utf-8")


if __name__ == "__main__":
    main()
