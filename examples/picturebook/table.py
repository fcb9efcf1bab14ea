"""Efficacy, generality and specificity of every ready-made picturebook edit, as a Markdown table.

    python examples/picturebook/table.py               # all of edits/picturebook, about 20 minutes on two CPU cores
    python examples/picturebook/table.py MANIFEST...   # some

What `timecli verify` does for one manifest, for all of them with one pipeline.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import fmean

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from timecli import edit, manifest, render, verify
from timecli.checkpoint import open_checkpoint
from timecli.judge import load_judge

HERE = Path(__file__).parent
EDITS = HERE.parent.parent / "edits" / "picturebook"


def percent(scores: dict[str, verify.Score]) -> list[str]:
    return [f"{scores[metric].mean:.0%}" if metric in scores else "-" for metric in verify.METRICS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="*", type=Path, default=sorted(EDITS.glob("*.toml")))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=7.5)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    checkpoint = open_checkpoint(HERE / "picturebook.safetensors")
    encoder = edit.read_text_encoder(checkpoint, None, device)
    pipeline, judge = render.load_pipeline(checkpoint, encoder, device), load_judge(HERE / "judge", device)
    settings = render.Settings(tuple(range(args.seeds)), args.steps, args.guidance)
    found: dict[str, list[dict[str, verify.Score]]] = {"baseline": [], "oracle": [], "edited": []}
    print("| edit | λ | efficacy | generality | specificity |\n|---|---|---|---|---|")
    for path in args.manifests:
        task = manifest.load(path)
        rows = verify.rows(task)
        measured = [row for row in rows if row.destination]
        edited = verify.edited_matrices(None, checkpoint, task, encoder, device)
        before, after = verify.draw(pipeline, edited, measured, settings, lambda _: None)
        scores = verify.measure(measured, before, after, judge.choose)
        for name, values in scores.items():
            found[name].append(values)
        lambdas = ", ".join(f"{lam:g}" for lam in dict.fromkeys(task.lam(pair) for pair in task.edits))
        print(f"| {task.name} | {lambdas} | {' | '.join(percent(scores['edited']))} |", flush=True)
        print(
            f"{task.name}: baseline {percent(scores['baseline'])}, oracle {percent(scores['oracle'])}", file=sys.stderr
        )
    for name, values in found.items():
        means = [fmean(scores[metric].mean for scores in values if metric in scores) for metric in verify.METRICS]
        print(f"| **{name}, mean of {len(values)}** | | {' | '.join(f'{mean:.1%}' for mean in means)} |")


if __name__ == "__main__":
    main()
