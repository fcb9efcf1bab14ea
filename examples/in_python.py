"""An edit in Python: compile it, see in text space what it does, apply it, write the model.

python examples/in_python.py MODEL OUTPUT
"""

import sys
from pathlib import Path

import torch

from timecli.editing import applying, compiling
from timecli.manifests import manifest
from timecli.models.checkpoint import open_checkpoint
from timecli.shipping import provenance
from timecli.shipping.publish import publish
from timecli.text import encoding

TEXT = """
name = "blue-roses"
[[edit]]
source = "A pack of roses"
destination = "A pack of blue roses"
"""


def main(model: Path, output: Path) -> None:
    cpu = torch.device("cpu")
    task, checkpoint = manifest.parse(TEXT), open_checkpoint(model)
    encoder = encoding.read_text_encoder(checkpoint, None, cpu)
    delta = compiling.compile_edit(task, encoder, cpu)
    for prompt in ("A pack of roses", "A vase of roses", "A poppy field", "A dog"):
        states = encoder.embed([prompt])
        print(f"{prompt}: moves by {delta.operator.shift(states).norm() / states.norm():.1%} in text space")
    edited = applying.edit_matrices(checkpoint, [delta], cpu)
    records = [provenance.record(delta, edited.base, strength=1.0)]
    publish(checkpoint, output, edited.tensors, records, dtype=None, with_hash=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
