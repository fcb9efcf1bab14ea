"""`verify` says where its own numbers say little: what the unedited model does not draw, and what it has itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from timecli.drawing import edited, page
from timecli.drawing.doubts import doubts
from timecli.drawing.verify import Score, missed
from timecli.editing import compiling
from timecli.manifests.manifest import parse
from timecli.manifests.rows import Row
from timecli.models.checkpoint import Checkpoint
from timecli.text.readers import TextEncoder

from .conftest import PICTUREBOOK, Run

MANIFEST = """
name = "{name}"
[[edit]]
source = "{source}"
destination = "{destination}"
[preserve]
everyday = "list.txt"
[verify]
efficacy = 0.5
"""
EVERYDAY = "A barn\nA dog\nA fox\nA cookie\nA poppy\nA hat\n"


def verified(run: Run, folder: Path, source: str, destination: str) -> tuple[dict[str, list[str]], str, Path]:
    """What `verify` finds of one pair on picturebook, what it prints on stderr, and its report."""
    (folder / "list.txt").write_text(EVERYDAY)
    (folder / "x.toml").write_text(MANIFEST.format(name="x", source=source, destination=destination))
    done = run(
        *("verify", folder / "x.toml", PICTUREBOOK / "picturebook.safetensors", "-o", folder / "report", "--json"),
        *("--seeds", 2, "--steps", 4, "--guidance", 3),
    )
    assert done.code in (0, 1), done.err
    return json.loads(done.out), done.err, folder / "report"


def test_a_thing_that_the_model_never_saw_is_told_at_the_top(run: Run, tmp_path: Path) -> None:
    found, said, folder = verified(run, tmp_path, "A dragon", "A green dragon")
    (doubt,) = found["doubts"]
    assert doubt.startswith("asked for 'A green dragon', the unedited model draws what the judge takes for ")
    assert "rather than for 'A dragon'" in doubt and doubt in said
    text = (folder / "report.html").read_text()
    assert text.index("Asked for &#39;A green dragon&#39;") < text.index('class="measures"')
    written = (folder / "report.md").read_text()
    assert written.index("**in doubt**: asked for") < written.index("| baseline |")


def test_a_thing_that_the_model_knows_is_in_no_doubt(run: Run, tmp_path: Path) -> None:
    """The control."""
    found, said, folder = verified(run, tmp_path, "A rose", "A blue rose")
    assert found["doubts"] == [] and "asked for" not in said
    assert "sentences" not in (folder / "report.html").read_text().split("<body>")[1].split('<h2 id="scores"')[0]


class Told:
    """A judge that reads what a picture shows from its `info`, and takes the first text where none fits."""

    none_fits = 0

    def choose(self, images: list[Image.Image], texts: tuple[str, ...]) -> list[int]:
        shown = [image.info["shows"] for image in images]
        return [texts.index(one) if one in texts else self.none_fits % len(texts) for one in shown]

    def described(self, images: list[Image.Image], texts: list[str]) -> tuple[list[float], None]:
        return [image.info["fits"] for image in images], None

    def seeing(self, images: dict[str, list[Image.Image]]) -> Callable[[str], torch.Tensor]:
        return lambda prompt: torch.tensor([image.info["looks"] for image in images[prompt]])


class Mostly(Told):
    """All shows the destination where it is asked for that, but the source's pictures; else what it is."""

    def __init__(self, destination: str, source: str) -> None:
        self.destination, self.source = destination, source

    def choose(self, images: list[Image.Image], texts: tuple[str, ...]) -> list[int]:
        told = texts[1:] == (self.destination,) and images[0].info["shows"] != self.source
        return [1] * len(images) if told else super().choose(images, texts)


LEFT, RIGHT = (1.0, 0.0), (0.0, 1.0)
"""Two looks that have nothing in common."""


def pictures(*shown: str, fits: float = 80.0, looks: tuple[float, float] = LEFT) -> list[Image.Image]:
    found = [Image.new("RGB", (8, 8)) for _ in shown]
    for image, text in zip(found, shown, strict=True):
        image.info.update(shows=text, fits=fits, looks=looks)
    return found


TABLE = [Row("source", "A CEO", "A female CEO"), Row("everyday", "A woman", None), Row("everyday", "A dog", None)]


def drawn(*shown: str, **more: Any) -> dict[str, list[Image.Image]]:
    """The unedited model's pictures: of the destination what these show, of all else what was asked for."""
    others = {row.prompt: pictures(*[row.prompt] * len(shown), looks=RIGHT) for row in TABLE}
    return {**others, "A female CEO": pictures(*shown, **more)}


def said(*shown: str, **more: Any) -> list[str]:
    return doubts(TABLE, Told(), drawn(*shown, **more))  # type: ignore[arg-type]


def test_a_destination_that_is_drawn_in_few_pictures_is_told() -> None:
    (doubt,) = said("A CEO", "A CEO", "A CEO", "A female CEO")
    assert "draws it in 25% of its pictures" in doubt
    assert not said("A CEO", "A female CEO"), "half of them are enough: the control"


def test_a_destination_that_is_drawn_anyhow_is_told() -> None:
    (doubt,) = said("A CEO", "A CEO", looks=RIGHT)
    assert doubt.startswith(
        "the unedited model draws 'A CEO' and 'A female CEO' alike: it draws the destination anyhow"
    )
    assert not said("A female CEO", "A female CEO", looks=RIGHT), "which the judge tells apart: the control"


def test_pictures_that_fit_their_words_far_worse_than_everyday_ones_are_told() -> None:
    table = [TABLE[0], *(Row("everyday", f"A {name}", None) for name in ("dog", "fox", "hat", "barn"))]
    everyday = {row.prompt: pictures(row.prompt, fits=79.0 + i) for i, row in enumerate(table[1:])}

    def of(fits: float, table: list[Row] = table) -> list[str]:
        return doubts(table, Told(), {**drawn("A female CEO", fits=fits), **everyday})  # type: ignore[arg-type]

    (doubt,) = of(70.0)
    assert "fit these words badly (CLIP score 70; of everyday prompts 80)" in doubt
    assert not of(79.0) and not of(70.0, table[:4]), "as everyday ones do, or of too few to tell: the controls"


def test_another_thing_in_the_place_of_one_is_what_was_asked_for() -> None:
    table, judge = [Row("source", "A dog", "A cat"), Row("everyday", "A fox", None)], Mostly("A cat", "A dog")

    def of(shown: str) -> list[str]:
        judge.none_fits = -1
        before = {"A dog": pictures("A dog", looks=RIGHT), "A cat": pictures(shown), "A fox": pictures("A fox")}
        return doubts(table, judge, before)  # type: ignore[arg-type]

    assert not of("A cat") and "takes for 'A fox' rather than for 'A dog'" in of("A fox")[0]


def test_a_woman_is_no_other_thing_than_a_female_ceo() -> None:
    table = [Row("source", "A CEO", "A female CEO"), *TABLE[1:]]

    def of(shown: str) -> list[str]:
        return doubts(table, Mostly("A female CEO", "A CEO"), drawn(shown))  # type: ignore[arg-type]

    assert not of("A woman") and "takes for 'A dog'" in of("A dog")[0]


TESTED = """name = "x"
[[edit]]
source = "A sheriff"
destination = "A female sheriff"
negatives = [{ prompt = "A baker", destination = "A female baker" }]
[verify]
efficacy = 0.9
specificity = 0.9
"""


def test_advice_compares_with_the_unedited_model_first() -> None:
    manifest = parse(TESTED)
    scores = {"baseline": {"specificity": Score((0.55,))}, "oracle": {"efficacy": Score((0.6,))}}
    edited = {"efficacy": Score((0.5,)), "specificity": Score((0.55,))}
    efficacy, specificity = missed(manifest, edited, scores)
    assert specificity.endswith("the unedited model has 55.0%, too: choose other negatives, or lower the threshold.")
    assert "the unedited model, asked for the destination, has 60.0% at most: choose other destinations" in efficacy
    better = {"baseline": {"specificity": Score((0.95,))}, "oracle": {"efficacy": Score((1.0,))}}
    for sentence in missed(manifest, edited, better):
        assert "unedited" not in sentence and "strength" in sentence, "the control"


def test_a_verdict_in_doubt_says_so() -> None:
    found = {"scores": {"edited": {}}, "thresholds": {"efficacy": 0.5}, "missed": [], "doubts": ["asked for x."]}
    assert page.verdict(found) == "The threshold is met, but the numbers are in doubt."
    assert page.verdict(found | {"doubts": []}) == "The threshold is met."


ONE = 'name = "one"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n[preserve]\neveryday = "list.txt"\n'
OTHER = ONE.replace('"one"', '"other"').replace("A blue rose", "A yellow rose")
STRONGER = ONE + "[solve]\nstrength = 1.5\n"
DEMANDING = ONE + "[verify]\nefficacy = 0.0\n"


@pytest.mark.parametrize("form", ["model", "delta"])
def test_an_edited_file_of_another_manifest_is_told_by_its_record(run: Run, tmp_path: Path, form: str) -> None:
    model, made = PICTUREBOOK / "picturebook.safetensors", tmp_path / "made"
    (tmp_path / "list.txt").write_text("A barn\nA dog\n")
    texts = {"other": OTHER, "stronger": STRONGER, "demanding": DEMANDING}
    for name, text in {"one": ONE, **texts}.items():
        (tmp_path / f"{name}.toml").write_text(text)
    target = ("-o", made) if form == "model" else ("--delta", made)
    assert run("edit", tmp_path / "one.toml", model, *target).code == 0
    said = {}
    for name in texts:
        out = tmp_path / f"report-{name}"
        small = ("--seeds", 1, "--steps", 1, "--config", PICTUREBOOK / "config", "--json")
        done = run("verify", tmp_path / f"{name}.toml", model, made, "-o", out, *small)
        assert done.code == 0, done.err
        said[name] = [one for one in json.loads(done.out)["doubts"] if "record" in one]
    told = "as its record says; the numbers are of that edit."
    assert said["other"] == [f"{made} was made with 'one' and not with 'other', {told}"]
    version = "another version of 'one' (other pairs, strength or settings)"
    assert said["stronger"] == [f"{made} was made with {version}, {told}"]
    assert said["demanding"] == [], "other thresholds are the same edit: the control"


def test_a_delta_that_preserves_other_prompts_is_of_another_version(model: Checkpoint, encoder: TextEncoder) -> None:
    """Whose pairs and strengths are the same. The control: a threshold is no part of the edit."""
    one = parse(ONE.replace('"list.txt"', "false"))
    delta, path = compiling.compile_edit(one, model, encoder, torch.device("cpu")), Path("d")
    kept, demanding = (parse(one.text + more) for more in ('prompts = ["A tulip"]\n', "[verify]\nefficacy = 0.0\n"))
    (told,) = edited.other_delta(path, delta, kept, encoder, None)
    assert "another version of 'one'" in told
    assert edited.other_delta(path, delta, demanding, encoder, None) == []
