"""`verify` draws with the files that it is given, and a damaged part of them is named or shows in the pictures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from timecli import cli
from timecli.drawing import render
from timecli.errors import CheckpointError
from timecli.files.safefile import open_file
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding

from .conftest import FEW, PICTUREBOOK, Run

CPU = torch.device("cpu")
CONFIG = PICTUREBOOK / "config"
SMALL = ("--seeds", "1", "--steps", "4", "--guidance", "3", "--judge", PICTUREBOOK / "judge")
QUICK = ("--seeds", "1", "--steps", "2")
VAE = "first_stage_model.decoder.conv_in.weight"
MANIFEST = """
name = "plain"
[[edit]]
source = "A pack of roses"
destination = "A pack of blue roses"
negatives = [
    { prompt = "A poppy field", destination = "A blue poppy field" },
    { prompt = "A vase of daisies", destination = "A vase of blue daisies" },
]
[preserve]
prompts = ["A poppy field", "A vase of daisies"]
everyday = "few.txt"
"""
THRESHOLD = "[verify]\nspecificity = 0.7\n"
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "plain.toml").write_text(MANIFEST)
    (tmp_path / "few.txt").write_text(FEW)
    return tmp_path / "plain.toml"


@pytest.fixture(scope="module")
def sound(picturebook: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound edited copy."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "plain.toml").write_text(MANIFEST)
    (folder / "few.txt").write_text(FEW)
    with pytest.raises(SystemExit) as stop:
        cli.main(["edit", str(folder / "plain.toml"), str(picturebook), "-o", str(folder / "edited.safetensors")])
    assert not stop.value.code
    return folder / "edited.safetensors"


@pytest.fixture
def edited(sound: Path, tmp_path: Path) -> Path:
    """One that a test may damage, in a folder without a config."""
    (tmp_path / "elsewhere").mkdir()
    return Path(shutil.copy(sound, tmp_path / "elsewhere" / "edited.safetensors"))


def rewrite(path: Path, change: Callable[[Tensors], None]) -> Path:
    """Change tensors of a file, which keeps its metadata."""
    metadata, tensors = open_file(path).metadata, load_file(path)
    change(tensors)
    save_file(tensors, path, dict(metadata))
    return path


def filled(value: float, *starts: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        names = [name for name in tensors if name.startswith(starts)]
        assert names
        for name in names:
            tensors[name] = torch.full_like(tensors[name], value)

    return change


def sheet(folder: Path) -> np.ndarray:
    return np.asarray(Image.open(folder / "sheet.png")).astype(int)


def test_a_zeroed_vae_in_the_edited_model_is_seen(
    run: Run, manifest: Path, picturebook: Path, edited: Path, tmp_path: Path
) -> None:
    manifest.write_text(MANIFEST + THRESHOLD)
    memory = run("verify", manifest, picturebook, "-o", tmp_path / "memory", *SMALL)
    sound = run("verify", manifest, picturebook, edited, "-o", tmp_path / "sound", *SMALL)
    assert (memory.code, sound.code) == (0, 0), sound.err
    assert np.abs(sheet(tmp_path / "memory") - sheet(tmp_path / "sound")).max() <= 1
    rewrite(edited, filled(0, "first_stage_model."))
    zeroed = run("verify", manifest, picturebook, edited, "-o", tmp_path / "zeroed", *SMALL)
    assert zeroed.code == 1 and "specificity is" in zeroed.err, zeroed.err
    changed = np.abs(sheet(tmp_path / "zeroed") - sheet(tmp_path / "sound")).max(2).max(0).nonzero()[0]
    assert changed.min() > 300, "before is drawn with the sound model"


def test_a_folder_is_drawn_by_its_own_parts(
    run: Run, manifest: Path, picturebook: Path, picturebook_folder: Path, edited: Path, tmp_path: Path
) -> None:
    """Against a single file of the same weights; another scheduler and another convolution each show."""
    made = tmp_path / "folder"
    assert run("edit", manifest, picturebook_folder, "-o", made).code == 0

    def drawn(name: str, *files: Path) -> np.ndarray:
        done = run("verify", manifest, *files, "-o", tmp_path / name, *QUICK)
        assert done.code == 0, done.err
        return sheet(tmp_path / name)

    folder = drawn("a", picturebook_folder, made)
    assert np.abs(folder - drawn("b", picturebook_folder)).max() <= 1
    scheduler = made / "scheduler" / "scheduler_config.json"
    whole = scheduler.read_text()
    scheduler.write_text(whole.replace('"epsilon"', '"v_prediction"'))
    assert np.abs(folder - drawn("c", picturebook_folder, made)).max() > 30
    scheduler.write_text(whole)
    rewrite(made / "unet" / "diffusion_pytorch_model.safetensors", filled(0, "conv_out."))
    assert np.abs(folder - drawn("d", picturebook_folder, made)).max() > 30
    # A folder against the file that its matrices come from in fp16 was not made from it.
    done = run("verify", manifest, picturebook_folder, edited, *QUICK)
    assert done.code == 2 and "was not made from" in done.err


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_copy_in_another_dtype_is_drawn(
    dtype: str, run: Run, manifest: Path, picturebook: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    assert run("edit", manifest, picturebook, "-o", copy, "--dtype", dtype).code == 0
    done = run("verify", manifest, picturebook, copy, "-o", tmp_path / "report", *QUICK)
    assert done.code == 0, done.err


def test_another_text_encoder_is_refused(run: Run, manifest: Path, picturebook: Path, edited: Path) -> None:
    rewrite(edited, filled(0, "cond_stage_model.transformer.text_model.final_layer_norm.bias"))
    done = run("verify", manifest, picturebook, edited, *QUICK)
    assert done.code == 2 and "has another text encoder" in done.err
    done = run("verify", manifest, picturebook, edited, *QUICK, "--text-encoder", picturebook)
    assert done.code == 2 and "has another text encoder" in done.err, "its own comes first"


def test_a_copy_without_an_edit_is_named(run: Run, picturebook: Path, manifest: Path, tmp_path: Path) -> None:
    copy = shutil.copy(picturebook, tmp_path / "copy.safetensors")
    done = run("verify", manifest, picturebook, copy, "-o", tmp_path / "report", *QUICK)
    assert done.code == 0 and "copy.safetensors has the maps of" in done.err


def test_an_edit_by_another_tool_is_drawn(
    run: Run, manifest: Path, picturebook: Path, edited: Path, tmp_path: Path
) -> None:
    save_file(load_file(edited), edited)
    done = run("verify", manifest, picturebook, edited, "-o", tmp_path / "report", *QUICK)
    assert done.code == 0, done.err
    assert "edited.safetensors has no record of an edit, so nothing says which edit the numbers are of." in done.err
    page = (tmp_path / "report" / "report.html").read_text()
    assert "has no record of an edit" in page.split('id="scores"')[0], "at the top of the report, too"


def test_a_delta_of_another_layer_is_refused(run: Run, picturebook: Path, manifest: Path, tmp_path: Path) -> None:
    assert run("edit", manifest, picturebook, "--clip-skip", "2", "--delta", tmp_path / "d").code == 0
    done = run("verify", manifest, picturebook, tmp_path / "d", "-o", tmp_path / "a", *QUICK)
    assert done.code == 2 and "was compiled with clip_skip 2 and plain has 1" in done.err
    right = (*QUICK, "--clip-skip", "2", "-o", tmp_path / "b")
    assert run("verify", manifest, picturebook, tmp_path / "d", *right).code == 0


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (VAE, "decoder.conv_in.weight of the vae holds NaN or infinite values"),
        ("model.diffusion_model.input_blocks.0.0.bias", "conv_in.bias of the unet holds NaN or infinite values"),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_damage_outside_the_matrices_is_named(
    name: str, sentence: str, value: float, run: Run, manifest: Path, picturebook: Path, edited: Path, tmp_path: Path
) -> None:
    def change(tensors: Tensors) -> None:
        tensors[name].view(-1)[5] = value

    rewrite(edited, change)
    done = run("verify", manifest, picturebook, edited, "-o", tmp_path / "report", *QUICK)
    assert done.code == 2 and f"{edited}: {sentence}" in done.err and not (tmp_path / "report").exists()
    done = run("verify", manifest, edited, "-o", tmp_path / "report", *QUICK)
    assert done.code == 2, "an edited model is no original"


def test_a_missing_weight_is_named(picturebook_folder: Path, tmp_path: Path) -> None:
    """diffusers would leave it without a value, with a warning."""

    def removed(tensors: Tensors) -> None:
        del tensors["decoder.conv_in.weight"]

    folder = shutil.copytree(picturebook_folder, tmp_path / "folder")
    rewrite(folder / "vae" / "diffusion_pytorch_model.safetensors", removed)
    checkpoint = open_checkpoint(folder)
    encoder = encoding.read_text_encoder(checkpoint, None, CPU)
    with pytest.raises(CheckpointError, match=r"decoder\.conv_in\.weight of the vae is missing"):
        render.load_pipeline(checkpoint, encoder, CPU)


def test_a_file_without_a_vae_is_one_sentence(run: Run, manifest: Path, picturebook: Path, tmp_path: Path) -> None:
    tensors = {name: t for name, t in load_file(picturebook).items() if not name.startswith("first_stage_model.")}
    save_file(tensors, tmp_path / "x.safetensors")
    done = run("verify", manifest, tmp_path / "x.safetensors", "--config", CONFIG, "-o", tmp_path / "report", *QUICK)
    assert done.code == 2 and "x.safetensors cannot be loaded for drawing" in done.err, done.err


def test_pictures_that_come_out_as_nan_are_refused(
    run: Run, manifest: Path, picturebook_fp32: Path, tmp_path: Path
) -> None:
    """Finite weights can overflow; the pictures would be black."""
    (tmp_path / "config").symlink_to(CONFIG, target_is_directory=True)
    copy = Path(shutil.copy(picturebook_fp32, tmp_path / "x.safetensors"))
    rewrite(copy, filled(3e38, VAE))
    done = run("verify", manifest, copy, "-o", tmp_path / "report", *QUICK)
    assert done.code == 2 and "is drawn as NaN, which would be black; the model is damaged" in done.err, done.err
    for precision, sentence in (("bf16", "which would be black"), ("fp16", "of the vae holds NaN or infinite values")):
        done = run("verify", manifest, copy, "-o", tmp_path / "report", *QUICK, "--precision", precision)
        assert (
            done.code == 2
            and f"{sentence}; draw with --precision fp32, which tells whether the model is damaged." in done.err
        ), done.err
