"""Files that are given in another's place: which one it is, and where it belongs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import PICTUREBOOK, Run

PLAIN = 'name = "plain"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n[preserve]\neveryday = false\n'
TRANSFORMER = PICTUREBOOK / "transformer"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, picturebook: Path) -> Path:
    """A manifest and what it makes of picturebook, which lies beside them under its own name."""
    from timecli.cli import main

    folder = tmp_path_factory.mktemp("files")
    (folder / "plain.toml").write_text(PLAIN)
    (folder / "zero.toml").write_text(PLAIN + "[solve]\nstrength = 0.0\n")
    (folder / "table.csv").write_text("source,destination\na rose,a blue rose\n")
    (folder / "table.json").write_text('{"name": "x"}\n')
    (folder / "model").symlink_to(picturebook)
    (folder / "config").symlink_to(PICTUREBOOK / "config")
    for command in (
        ("edit", folder / "plain.toml", picturebook, "-o", folder / "edited", "--delta", folder / "delta"),
        ("export", folder / "delta", picturebook, "-o", folder / "lora.safetensors"),
    ):
        with pytest.raises(SystemExit) as end:
            main([*map(str, command), "--quiet"])
        assert end.value.code == 0
    return folder


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("plan plain.toml plain.toml model", "plain.toml is given twice; leave one out."),
        ("apply delta delta model", "delta is given twice; leave one out."),
        ("edit delta model", "delta is a delta, not a manifest; `timecli apply` and `timecli export` take deltas."),
        ("plan table.csv model", "it is a CSV file: `timecli init` writes a manifest to begin with"),
        ("plan table.json model", "it looks like JSON, and a manifest is TOML"),
        ("plan zero.toml model", "plain has strength 0, which changes nothing; choose another."),
        ("verify model plain.toml", "model stands in the place of a manifest; give manifests (.toml) first"),
        ("verify plain.toml", "no model stands behind"),
        ("verify plain.toml model edited edited", "3 files stand behind the manifests"),
        ("verify plain.toml edited model", "give the original before the edited model."),
        ("verify plain.toml model lora.safetensors", "is a LoRA, which `verify` does not draw with; give the delta"),
    ],
)
def test_a_file_in_the_place_of_another_is_named(run: Run, files: Path, command: str, sentence: str) -> None:
    name, *given = command.split()
    done = run(name, *(files / one for one in given))
    assert done.code == 2 and sentence in done.err, done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("part", ["text_encoder", "vae", "tokenizer", "vae/diffusion_pytorch_model.safetensors"])
def test_a_part_of_a_model_is_answered_with_the_model(run: Run, files: Path, part: str) -> None:
    done = run("plan", files / "plain.toml", TRANSFORMER / part)
    assert done.code == 2 and f"{part} is one part of a model; give the whole folder, {TRANSFORMER}." in done.err


def test_a_folder_around_a_model_is_answered_with_the_model(run: Run, files: Path, tmp_path: Path) -> None:
    for name in ("transformer", "config"):
        (tmp_path / name).symlink_to(PICTUREBOOK / name)
    done = run("plan", files / "plain.toml", tmp_path)
    assert done.code == 2 and f"give the folder in it, {tmp_path / 'transformer'}." in done.err, done.err
    shutil.copytree(TRANSFORMER, tmp_path / "other", symlinks=True)
    done = run("plan", files / "plain.toml", tmp_path)
    assert f"give one of the folders in it, such as {tmp_path / 'other'}." in done.err


def test_an_edit_that_is_applied_at_another_strength_says_so(run: Run, files: Path, tmp_path: Path) -> None:
    for strength, said, changed in (("-1", ", applied at strength -1", 32), ("0", ", applied at strength 0", 0)):
        out = tmp_path / f"s{strength}"
        done = run("apply", files / "delta", files / "model", "--strength", strength, "-o", out)
        assert said in done.out and f"{changed} matrices changed" in done.out
    assert "applied at" not in run("apply", files / "delta", files / "model", "-o", tmp_path / "whole").out
