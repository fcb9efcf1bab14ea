"""The UNet and the transformer side by side: how often either draws what it is told, from the same noise.

    python architectures.py                     # transformer/ beside this file, minutes on two CPU cores
    python architectures.py --work .train       # what transformer.py has trained so far

Both are drawn by diffusers' pipelines, of as many steps and with the same guidance, and judged as in evaluate.py. The
oracle is asked of the edits of bench/: it draws an edit's destination, and the judge must not take it for its source.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import diffusers
import numpy as np
import transformers

import phrases
import world
from benchmark import Edit, edits
from evaluate import PROMPTS, Judge, Row, checks, load_pipeline, percent, render, show, tally
from transformer import load_shipped, trained

HERE = Path(__file__).parent
Draw = Callable[[Sequence[str]], dict[str, np.ndarray]]


def told(pipeline: diffusers.FluxPipeline) -> Callable[..., object]:
    """FluxPipeline, called as StableDiffusionPipeline is: classifier-free guidance, 64 pixels, 77 text states."""

    def call(texts: list[str], guidance_scale: float, **settings: object) -> object:
        empty = [""] * len(texts)  # one would not do for many
        size = {"height": world.SIZE, "width": world.SIZE, "max_sequence_length": 77}
        return pipeline(texts, negative_prompt=empty, true_cfg_scale=guidance_scale, **size, **settings)

    return call


def obeyed(judge: Judge, draw: Draw) -> dict[str, Row]:
    """Attribute -> the shares of pictures that show the attribute that their prompt names against the default."""
    prompts = {prompt.strip(): phrases.parse(prompt) for prompt in PROMPTS.split(",")}
    images = draw(list(prompts))
    found = [check for text, request in prompts.items() for check in checks(request, images[text]) if check.rival]
    return {str(row["attribute"]): row for row in tally(judge, found)}


def oracle(judge: Judge, draw: Draw, asked: Sequence[Edit]) -> dict[str, Row]:
    """Kind of prompt -> the share of pictures of the destination that the judge takes for it, not for the source."""
    kinds = {
        "source": [(edit.source, edit.destination) for edit in asked],
        "positive": [pair for edit in asked for pair in edit.positives],
    }
    images = draw(list(dict.fromkeys(goal for pairs in kinds.values() for _, goal in pairs)))
    rows = {}
    for kind, pairs in kinds.items():
        right = [judge.choose(images[goal], [goal, source]) == 0 for source, goal in pairs]
        rows[kind] = {"prompts": kind, "pictures": sum(map(len, right)), "judge, two": percent(right)}
    return rows


def beside(tables: dict[str, dict[str, Row]]) -> list[Row]:
    """Rows of one table per model -> rows of one table, the shares under the models' names."""
    first, *_ = tables.values()
    rows: list[Row] = []
    for key in first:
        head = {name: value for name, value in first[key].items() if not isinstance(value, float)}
        shares = {
            f"{model}: {name}": value
            for model, table in tables.items()
            for name, value in table[key].items()
            if isinstance(value, float)
        }
        rows.append(head | shares)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transformer", type=Path, default=HERE / "transformer", help="diffusers folder")
    parser.add_argument("--work", type=Path, help="work folder of transformer.py, instead of --transformer")
    parser.add_argument("--seeds", type=int, default=2, help="pictures per prompt")
    parser.add_argument("--every", type=int, default=4, help="of so many edits, one is asked")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    args = parser.parse_args()
    for logging in (diffusers.logging, transformers.logging):
        logging.set_verbosity_error()
    flux = trained(args.work) if args.work else load_shipped(args.transformer)
    flux.set_progress_bar_config(disable=True)
    models = {"UNet": load_pipeline(HERE / "picturebook.safetensors", HERE / "config"), "transformer": told(flux)}
    settings = {"seeds": args.seeds, "num_inference_steps": args.steps, "guidance_scale": args.guidance}
    draws = {name: partial(render, model, **settings) for name, model in models.items()}
    judge, asked = Judge(HERE / "judge"), [edit for _, edit in edits()][:: args.every]
    tables = {
        "Explicit attributes obeyed, %": {name: obeyed(judge, draw) for name, draw in draws.items()},
        f"The oracle of {len(asked)} edits, %": {name: oracle(judge, draw, asked) for name, draw in draws.items()},
    }
    print("\n".join(show(title, beside(found)) for title, found in tables.items()))


if __name__ == "__main__":
    main()
