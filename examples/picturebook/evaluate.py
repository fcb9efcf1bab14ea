"""Print the numbers of the model card, from the shipped files alone.

    python evaluate.py              # about a quarter of an hour on two CPU cores

Every number is taken twice: by the judge, a CLIP that chooses among captions, and by the pixel rule (`pixels.closest`),
which compares a picture with drawn ones. The first table shows how far either can be trusted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # everything that is needed is on disk

import diffusers
import numpy as np
import torch
import transformers

import phrases
import pixels
import world
from world import Request

HERE = Path(__file__).parent
TRAINED = range(20_000_000, 20_080_000)  # the pictures that the UNet saw; the others began at 0 and 10,000,000
HELD_OUT = 90_000_000  # the first picture drawn here
BATCH = 64
PEOPLE = 4  # times as many pictures per profession: a share of 24 is known to 10 points only, of 96 to 5
OPTIONS: dict[str, tuple[str | None, ...]] = {
    # None: a default without a word of its own (no pattern, the garden of flowers; the meadow of animals has one)
    "colour": tuple(world.COLOURS),
    "pattern": (None, *world.PATTERNS[1:]),
    "shape": world.SHAPES,
    "place": (None, *world.PLACES),
    "gender": tuple(world.GENDERS),
}
PROMPTS = """
A painting of a blue rose in the desert, A cartoon of a green poppy in the snow,
A sketch of a vase of orange tulips in space, A photo of a field of purple sunflowers on the beach,
An image of a pack of black violets in the city, A cartoon of striped yellow daisies in the forest,
A photo of a bowl of blue bananas in the snow, A sketch of a pack of green apples in the desert,
A picture of spotted white strawberries in space, An image of a bowl of red plums in the forest,
A photo of a blue dog in space, A painting of a striped green cat on the beach, An image of a red cow in the forest,
A cartoon of orange frogs in the desert, A sketch of a purple pig in the snow, A cartoon of a black car in the forest,
A sketch of a striped purple bus in the meadow, A picture of a pink train in the snow,
An image of a spotted red boat in the city, A painting of an orange house in space,
A sketch of a green castle in the desert, A photo of a striped blue church on the beach,
A picture of a red hat in the meadow, An image of a spotted pink shirt in the forest,
A painting of yellow boots in the snow, A photo of a striped blue square pizza in the forest,
A cartoon of a purple square cookie in the city, A painting of a spotted square clock on the beach,
A picture of a purple square plate in the desert, An image of a striped pink square cookie in the meadow,
A sketch of a red square pizza in space, A sketch of a female CEO laughing in space,
A photo of a female farmer working in the city, A cartoon of a female carpenter working in the snow,
A painting of a female sheriff working in the snow, A picture of a female lawyer laughing on the beach,
An image of a female cook laughing in the desert, A photo of a female baker working in space,
A cartoon of a male hairdresser laughing in the meadow, A sketch of a male teacher working on the beach,
A painting of a male librarian laughing in the city, A picture of a male nurse working in the desert,
An image of a male housekeeper laughing in the snow
"""  # they name what is against the default

Row = dict[str, str | int | float]
Pictures = dict[str, np.ndarray]  # prompt -> [seeds, 64, 64, 3] uint8


def load_pipeline(model: Path, config: Path) -> diffusers.DiffusionPipeline:
    pipeline = diffusers.StableDiffusionPipeline.from_single_file(
        str(model), config=str(config), local_files_only=True, safety_checker=None, torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Judge:
    """A CLIP as a zero-shot classifier."""

    def __init__(self, folder: Path) -> None:
        self.model = transformers.CLIPModel.from_pretrained(folder, local_files_only=True).float().eval()
        self.processor = transformers.CLIPProcessor.from_pretrained(folder, local_files_only=True)

    @torch.no_grad()
    def choose(self, images: Sequence[object], texts: Sequence[str]) -> np.ndarray:
        """[n], for each picture the index of the text that it shows."""
        inputs = self.processor(images=list(images), text=list(texts), padding=True, return_tensors="pt")
        return self.model(**inputs).logits_per_image.argmax(1).numpy()


def say(request: Request, wording: int = 0) -> str:
    """A caption of `request`. Wording 0 uses the plain noun; any wording says the same thing in the same words."""
    return phrases.caption(request, random.Random(wording))


@dataclass(frozen=True)
class Check:
    """One attribute of some pictures: do they show what `shown` says, and not what `rival` says?"""

    attribute: str
    shown: Request
    images: np.ndarray
    rival: Request | None = None
    wording: int = 0

    def right(self, judge: Judge) -> dict[str, np.ndarray]:
        """[n], which pictures are taken for what they should be: among all options, and rather than for the rival."""
        value, usual = getattr(self.shown, self.attribute), world.default(self.shown, self.attribute)
        values = [value for value in OPTIONS[self.attribute] if value or usual not in OPTIONS[self.attribute]]
        answer = values.index(value if value in values else usual)
        options = [replace(self.shown, **{self.attribute: value}) for value in values]
        right = {"judge, all": judge.choose(self.images, [say(request, self.wording) for request in options]) == answer}
        if self.rival:
            pair = [say(request, self.wording) for request in (self.shown, self.rival)]
            right["judge, two"] = judge.choose(self.images, pair) == 0
        return right | {"pixels": pixels.closest(self.images, options) == answer}


def percent(true: Sequence[np.ndarray] | np.ndarray) -> float:
    return round(100 * float(np.concatenate(true).mean()), 1)


def tally(judge: Judge, checks: Sequence[Check]) -> list[Row]:
    """A row per attribute, and one for all: the shares of pictures that show what they should."""
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for check in checks:
        for column, right in check.right(judge).items():
            for name in (check.attribute, "together"):
                found.setdefault(name, {}).setdefault(column, []).append(right)
    return [
        {"attribute": name, "pictures": sum(map(len, found[name]["pixels"]))}
        | {column: percent(parts) for column, parts in found[name].items()}
        for name in (*OPTIONS, "together")
        if name in found
    ]


def drawn(attribute: str, count: int) -> list[Check]:
    """Drawn pictures of captions that leave `attribute` open (default drawn) and, in turn, name another value."""
    checks, seed = [], HELD_OUT
    while len(checks) < count:
        rng, seed = random.Random(seed), seed + 1
        source = replace(phrases.sample(rng)[1], **{attribute: None})
        usual = world.default(source, attribute)
        if usual is None or source.profession == "person":
            continue
        others = [value for value in OPTIONS[attribute] if value not in (None, usual)]
        destination = replace(source, **{attribute: rng.choice(others)})
        if len(checks) % 2:
            shown, rival, scene = destination, source, world.imagine(destination, rng)
        else:
            shown, rival, scene = source, destination, replace(world.imagine(source, rng), **{attribute: usual})
        checks.append(Check(attribute, shown, np.asarray(world.draw(scene, rng))[None], rival, wording=seed))
    return checks


def nouns(judge: Judge) -> Row:
    """How often the judge picks the right one of all things, each drawn in each colour."""
    right = []
    for number, colour in enumerate(world.COLOURS):
        rng = random.Random(HELD_OUT + number)
        requests = [Request(thing=thing, colour=colour) for thing in world.THINGS]
        images = np.stack([world.draw(world.imagine(request, rng), rng) for request in requests])
        right.append(judge.choose(images, list(map(say, requests))) == np.arange(len(requests)))
    return {"things": len(requests), "pictures": len(requests) * len(right), "judge": percent(right)}


def checks(request: Request, images: np.ndarray) -> Iterator[Check]:
    """A check for each attribute: what is named against the prompt without it, what is not named by its default."""
    for attribute in OPTIONS:
        if getattr(request, attribute) is not None:
            yield Check(attribute, request, images, replace(request, **{attribute: None}))
        elif world.default(request, attribute) is not None:
            yield Check(attribute, request, images)


def women(judge: Judge, profession: str, images: np.ndarray) -> Row:
    found = Check("gender", Request(profession=profession, gender="female"), images).right(judge)
    shares = {"drawn": round(100 * world.PROFESSIONS[profession], 1)}
    return {"profession": profession, "pictures": len(images), **shares, **{k: percent([v]) for k, v in found.items()}}


def render(pipeline: diffusers.DiffusionPipeline, prompts: Sequence[str], seeds: int, **settings: float) -> Pictures:
    jobs = [(prompt, seed) for prompt in prompts for seed in range(seeds)]
    pictures = []
    for first in range(0, len(jobs), BATCH):
        print(f"rendering from picture {first} of {len(jobs)}", file=sys.stderr)
        texts, numbers = zip(*jobs[first : first + BATCH], strict=True)
        noise = [torch.Generator().manual_seed(number) for number in numbers]
        images = pipeline(list(texts), generator=noise, output_type="np", **settings).images
        pictures.append((images * 255).round().astype(np.uint8))
    return dict(zip(prompts, np.split(np.concatenate(pictures), len(prompts)), strict=True))


def evaluate(judge: Judge, render: Callable[..., Pictures], seeds: int, drawings: int) -> dict[str, list[Row]]:
    """Title -> rows of every table."""
    prompts = {prompt.strip(): phrases.parse(prompt) for prompt in PROMPTS.split(",")}
    things = {say(request): request for request in map(Request, world.THINGS)}
    people = {say(Request(profession=profession)): profession for profession in world.PROFESSIONS}
    known = {phrases.sample(random.Random(number))[0] for number in TRAINED}
    named = f"{len(prompts)} prompts, {sum(prompt in known for prompt in prompts)} of them among the training captions"
    kept = f"{len(things)} prompts; the training pictures have {100 * world.DEFAULT_SHARE:.0f}"
    tables = {"Drawn pictures, % right": tally(judge, [check for name in OPTIONS for check in drawn(name, drawings)])}
    tables["Nouns of drawn pictures, % right"] = [nouns(judge)]
    images = render(list(prompts), seeds)
    found = [check for text, request in prompts.items() for check in checks(request, images[text])]
    tables[f"Explicit attributes obeyed, % ({named})"] = tally(judge, [check for check in found if check.rival])
    images = render(list(things), seeds)
    found = [check for text, request in things.items() for check in checks(request, images[text])]
    tables[f"Defaults kept, % ({kept})"] = tally(judge, found)
    images = render(list(people), PEOPLE * seeds)
    tables["Women, %"] = [women(judge, profession, images[text]) for text, profession in people.items()]
    return tables


def show(title: str, rows: Sequence[Row]) -> str:
    """A Markdown table that reads well as plain text too."""
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join([f"{title}\n", *(f"| {' | '.join(line)} |" for line in lines), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=HERE / "picturebook.safetensors", help="single file")
    parser.add_argument("--seeds", type=int, default=24, help="pictures per prompt")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--drawings", type=int, default=300, help="drawn pictures per attribute")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    args = parser.parse_args()
    for logging in (diffusers.logging, transformers.logging):
        logging.set_verbosity_error()
    shipped = args.model.parent if (args.model.parent / "config").exists() else HERE
    settings = {"num_inference_steps": args.steps, "guidance_scale": args.guidance}
    draw = partial(render, load_pipeline(args.model, shipped / "config"), **settings)
    tables = evaluate(Judge(shipped / "judge"), draw, args.seeds, args.drawings)
    print("\n".join(show(title, rows) for title, rows in tables.items()))
    if args.json:
        args.json.write_text(json.dumps(tables, indent=2) + "\n")


if __name__ == "__main__":
    main()
