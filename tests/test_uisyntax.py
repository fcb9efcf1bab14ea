"""What user interfaces take out of a prompt is warned of; ordinary prompts are not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from timecli.manifests.keys import Edit, Preserve, Probe, Solve, Verify
from timecli.manifests.manifest import Manifest, load
from timecli.models.checkpoint import open_checkpoint
from timecli.text.encoding import read_text_encoder
from timecli.text.uisyntax import cautions

from .conftest import ROOT, Run

INTERPRETED = {
    "A (rose:1.3)": "'(rose:1.3)' (A1111, Forge and ComfyUI)",
    "((roses)) in a vase": "'((roses))' (A1111, Forge and ComfyUI)",
    "a (small) dog": "'(small)' (A1111, Forge and ComfyUI)",
    "[roses]": "'[roses]' (A1111 and Forge)",
    "a [dog|cat]": "'[dog|cat]' (A1111 and Forge)",
    "a [dog:cat:0.5]": "'[dog:cat:0.5]' (A1111 and Forge)",
    "a rose \\(flower\\)": "'\\\\(' (A1111 and Forge), '\\\\)'",
    "<lora:flat:0.8> a rose": "'<lora:flat:0.8>' (A1111 and Forge)",
    "<hypernet:x:1>": "'<hypernet:x:1>' (A1111 and Forge)",
    "a rose, embedding:flat": "'embedding:flat' (ComfyUI)",
    "a {dog|cat}": "'{dog|cat}' (ComfyUI)",
    "a dog BREAK a cat": "'BREAK' (A1111 and Forge)",
    "a dog AND a cat": "'AND' (A1111 and Forge)",
}
ORDINARY = (
    *(
        "A rose, red; a dog's house - well-known!",
        "5 o'clock :)",
        "a <3 for you",
        "x < y > z",
        "salt & pepper",
        "a -> b",
        "a <blue-style> rose",
    ),
    *(
        "break and enter",
        "Andes, breakfast, BREAKFAST, ANDES",
        "1:1 scale, 3.5 m",
        "caf\u00e9 \u65e5\u672c \U0001f339",
        "{}",
        "100% $5 #1 @home",
    ),
)


def manifest(prompt: str) -> Manifest:
    return Manifest("x", (Edit("one", prompt),))


@pytest.mark.parametrize("prompt", INTERPRETED)
def test_a_sentence_says_what_is_interpreted_and_by_whom(prompt: str) -> None:
    (sentence,) = cautions(manifest(prompt))
    assert INTERPRETED[prompt] in sentence and repr(prompt) in sentence and "\n" not in sentence


@pytest.mark.parametrize("prompt", ORDINARY)
def test_ordinary_prompts_are_left_alone(prompt: str) -> None:
    assert cautions(manifest(prompt)) == []


@pytest.mark.parametrize("part", ["{", "|", "(", "[", "<a:", "\\", "<", "embedding:"])
def test_no_prompt_takes_long_to_look_through(part: str) -> None:
    """A manifest of a pull request is validated by whoever gets it."""
    prompt = "{" + part * 100_000
    started = time.perf_counter()
    cautions(Manifest("x", (Edit(prompt, "A rose"),)))
    assert time.perf_counter() - started < 5


def test_the_manifests_of_this_repository_are_ordinary() -> None:
    paths = sorted((ROOT / "edits").rglob("*.toml"))
    assert len(paths) > 20 and not any(cautions(load(path)) for path in paths)


def test_every_prompt_is_looked_at_once() -> None:
    one = Manifest(
        "x",
        (Edit("(a)", "(b)"), Edit("c", "(b)")),
        solve=Solve(augment=("({}:1.2)",)),
        preserve=Preserve(("(d)",)),
        verify=Verify(("(e)",)),
    )
    assert [sentence.count("(a)") + sentence.count("(e)") for sentence in cautions(one)] == [2, 0, 0, 0, 2]


TOKEN = 'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A <blue-style> rose"\nstrength = 0.3\n'


def test_embeddings_are_known_by_the_tokenizer(run: Run, small: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(TOKEN)
    (tmp_path / "known.toml").write_text(TOKEN.replace("<blue-style>", "<|endoftext|>"))
    (tmp_path / "plain.toml").write_text(TOKEN.replace("<blue-style>", "blue"))
    done = run("plan", tmp_path / "x.toml", small)
    assert done.code == 0 and done.err.startswith(
        "timecli: warning: '<blue-style>' in 'A <blue-style> rose' is no token"
    )
    for name in ("known", "plain"):
        assert run("plan", tmp_path / f"{name}.toml", small).err == "", "the control"


def test_a_word_in_four_pieces_is_a_rare_one(small: Path) -> None:
    encoder = read_text_encoder(open_checkpoint(small), None, torch.device("cpu"))
    assert [len(encoder.pieces(word)) for word in ("axolotl", "tardigrade")] == [4, 3]
    (sentence,) = cautions(Manifest("x", (Edit("An axolotl", "A blue axolotl"),)), encoder)
    assert sentence.startswith("'axolotl' is 4 pieces to this model (ax, o, lot, l)")
    assert cautions(Manifest("x", (Edit("A tardigrade", "A blue tardigrade"),)), encoder) == []


def test_a_word_is_looked_at_without_what_stands_around_it_and_many_pieces_are_cut(small: Path) -> None:
    encoder = read_text_encoder(open_checkpoint(small), None, torch.device("cpu"))
    (sentence,) = cautions(Manifest("x", (Edit('"An axolotl,', "A blue axolotl."),)), encoder)
    assert sentence.startswith("'axolotl' is 4 pieces")
    (sentence,) = cautions(Manifest("x", (Edit("A 123456789", "A blue 123456789"),)), encoder)
    assert sentence.startswith("'123456789' is 9 pieces to this model (1, 2, 3, 4, 5, 6, 7, 8, …), so")


def test_prompts_of_one_syntax_have_one_sentence() -> None:
    edit = Edit("a (rose:1.3)", "a blue (rose:1.3)", positives=(Probe("a vase of (rose:1.3)", "a blue (rose:1.3)"),))
    (sentence,) = cautions(Manifest("x", (edit,)))
    assert "a part of 'a (rose:1.3)' and 2 more prompts before they encode it: '(rose:1.3)' (A1111" in sentence


def test_a_destination_that_says_what_should_not_be_there_is_told() -> None:
    (sentence,) = cautions(Manifest("x", (Edit("A man", "A man without a beard"),)))
    assert sentence.startswith("'A man without a beard': text encoders hardly read 'without'")
    assert not cautions(Manifest("x", (Edit("A man", "A shaven man"),))), "the control"


def test_commands_warn_once_and_go_on(run: Run, small: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(TOKEN.replace("A <blue-style> rose", "A blue (rose:1.3)"))
    for arguments in (
        ("plan", tmp_path / "x.toml"),
        ("plan", tmp_path / "x.toml", small),
        ("edit", tmp_path / "x.toml", small, "--delta", tmp_path / "d", "--force"),
        ("edit", tmp_path / "x.toml", small, "--delta", tmp_path / "d", "--force", "--json"),
    ):
        done = run(*arguments)
        assert done.code == 0 and done.err.count("timecli: warning: user interfaces interpret") == 1, done.err
