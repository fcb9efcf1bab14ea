"""Efficacy, generality and specificity of the ready-made picturebook edits, as a Markdown table.

    python examples/picturebook/table.py                    # all of edits/picturebook, about 10 minutes on two cores
    python examples/picturebook/table.py --lam own 0.1      # with the manifests' λ, and with one for all

What `timecli verify` does for one manifest, for all of them with one pipeline. Several --lam share the pictures of the
unedited model.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from timecli.drawing import render, verify
from timecli.drawing.edited import edited_matrices
from timecli.drawing.judge import load_judge
from timecli.editing import compiling
from timecli.manifests import manifest
from timecli.manifests.rows import rows as all_rows
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding

HERE = Path(__file__).parent
EDITS = HERE.parent.parent / "edits" / "picturebook"
Found = dict[str, list[dict[str, verify.Score]]]


def parse_lambda(text: str) -> float | None:
    return None if text == "own" else float(text)


def with_lambda(task: manifest.Manifest, lam: float | None) -> manifest.Manifest:
    """The manifest with one λ for all its edits; None keeps its own."""
    if lam is None:
        return task
    return replace(
        task, solve=replace(task.solve, lam=lam), edits=tuple(replace(pair, lam=None) for pair in task.edits)
    )


def cells(values: list[dict[str, verify.Score]]) -> str:
    shares = ([scores[metric].mean for scores in values if metric in scores] for metric in verify.PAPER)
    return " | ".join(f"{fmean(share):.1%}" if share else "-" for share in shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="*", type=Path, default=sorted(EDITS.glob("*.toml")))
    parser.add_argument("--lam", nargs="+", type=parse_lambda, default=[None], help="'own' is the manifest's")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint = open_checkpoint(HERE / "picturebook.safetensors")
    encoder = encoding.read_text_encoder(checkpoint, None, device)
    pipeline, judge = render.load_pipeline(checkpoint, encoder, device), load_judge(HERE / "judge", device)
    settings = render.Settings(tuple(range(args.seeds)), args.steps, args.guidance)
    draw = partial(render.render, pipeline, settings=settings, tick=lambda _: None)
    found: Found = {}
    print("| edit | λ | efficacy | generality | specificity |\n|---|---|---|---|---|")
    for path in args.manifests:
        task = manifest.load(path)
        rows = [row for row in all_rows(task) if row.destination]
        before = draw(verify.prompts_before(rows))
        for lam in args.lam:
            delta = compiling.compile_edit(with_lambda(task, lam), encoder, device)
            edited = edited_matrices(delta, checkpoint, device)
            with render.replaced(pipeline.unet, edited):
                after = draw(verify.prompts_after(rows))
            scores = verify.measure(rows, judge.asked(before), judge.asked(after))
            name = "edited, λ of the manifest" if lam is None else f"edited, λ = {lam:g}"
            for key, values in (("baseline", "baseline"), ("oracle", "oracle"), (name, "edited")):
                found.setdefault(key, []).append(scores[values])
            lambdas = ", ".join(f"{task.lam(pair) if lam is None else lam:g}" for pair in task.edits[:1])
            print(f"| {task.name} | {lambdas} | {cells([scores['edited']])} |", flush=True)
        print(
            f"{task.name}: baseline {cells([scores['baseline']])}, oracle {cells([scores['oracle']])}", file=sys.stderr
        )
    for name, values in found.items():
        print(f"| **{name}, mean of {len(args.manifests)} edits** | | {cells(values)} |")


if __name__ == "__main__":
    main()
