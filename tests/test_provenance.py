"""What an edited file says of itself."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from timecli.editing import applying, compiling
from timecli.errors import CheckpointError
from timecli.files.rewriting import DATA_HASH
from timecli.files.safefile import open_file
from timecli.manifests.manifest import parse
from timecli.models.checkpoint import EDITS, open_checkpoint
from timecli.shipping import provenance
from timecli.shipping.publish import publish
from timecli.text import encoding
from timecli.text.tokenizers import clip_tokenizer

from . import small as small_models
from .conftest import ROSES, Run

TEXT = 'name = "blue"\n[[edit]]\nsource = "A pack of roses"\ndestination = "A pack of blue roses"\n'


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def edited(model: Path, output: Path, recipe: bool = True, with_hash: bool = False) -> dict[str, str]:
    checkpoint, cpu = open_checkpoint(model), torch.device("cpu")
    delta = compiling.compile_edit(parse(TEXT), checkpoint, encoding.read_text_encoder(checkpoint, None, cpu), cpu)
    found = applying.edit_matrices(checkpoint, [delta], cpu)
    records = [provenance.record(delta, found.base, found.made, 1.0, recipe)]
    publish(checkpoint, output, found.tensors, records, None, with_hash)
    return metadata(output)


def test_the_sources_metadata_is_carried_over_and_every_edit_recorded(small: Path, tmp_path: Path) -> None:
    edited(small, tmp_path / "once.safetensors")
    found = edited(tmp_path / "once.safetensors", tmp_path / "twice.safetensors")
    records = json.loads(found[EDITS])
    assert [entry["name"] for entry in records] == ["blue", "blue"] and records[0]["base"] != records[1]["base"]
    assert records[0]["manifest"] == TEXT and records[0]["tokens"][0][0] == clip_tokenizer().ids("A pack of roses")
    assert found["modelspec.title"] == "small + blue + blue" and found["format"] == "pt"
    assert found["modelspec.merged_from"] == "small + blue"
    assert json.loads(found["sd_merge_recipe"])["type"] == "timecli"


def test_without_the_recipe_no_prompt_is_in_the_file(small: Path, tmp_path: Path) -> None:
    edited(small, tmp_path / "with.safetensors")
    edited(small, tmp_path / "without.safetensors", recipe=False)
    header = {name: (tmp_path / name).read_bytes()[:200_000] for name in ("with.safetensors", "without.safetensors")}
    assert b"roses" in header["with.safetensors"] and b"roses" not in header["without.safetensors"]
    assert json.loads(metadata(tmp_path / "without.safetensors")[EDITS])[0]["name"] == "blue"


def test_a_hash_is_that_of_the_bytes(small: Path, tmp_path: Path) -> None:
    found = edited(small, tmp_path / "out.safetensors", with_hash=True)
    content, start = (tmp_path / "out.safetensors").read_bytes(), open_file(tmp_path / "out.safetensors").data
    assert found[DATA_HASH] == f"0x{hashlib.sha256(content[start:]).hexdigest()}"
    base = hashlib.sha256(small.read_bytes()).hexdigest()
    assert json.loads(found["sd_merge_recipe"])["primary_model_hash"] == base
    assert json.loads(found["sd_merge_models"])[base]["name"] == "small"


def test_a_hash_that_is_no_longer_true_is_dropped(small: Path, tmp_path: Path) -> None:
    stale = {DATA_HASH: "0x00", "sshs_model_hash": "00", "ss_other": "kept"}
    save_file(load_file(small), tmp_path / "in.safetensors", stale)
    found = edited(tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    assert DATA_HASH not in found and "sshs_model_hash" not in found and found["ss_other"] == "kept"


def test_foreign_metadata_is_no_obstacle(small: Path, tmp_path: Path) -> None:
    save_file(load_file(small), tmp_path / "in.safetensors", {"sd_merge_models": "{broken", "sd_merge_recipe": "[1]"})
    assert json.loads(edited(tmp_path / "in.safetensors", tmp_path / "out", with_hash=True)["sd_merge_models"])


def test_a_folder_has_no_hash(picturebook_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--hash is for a single file"):
        edited(picturebook_folder, tmp_path / "out", with_hash=True)


def test_git_shows_the_manifest(run: Run, picturebook: Path, tmp_path: Path) -> None:
    run("edit", ROSES, picturebook, "-o", tmp_path / "out", "--delta", tmp_path / "x.delta")
    for file in (tmp_path / "out", tmp_path / "x.delta"):
        assert run("inspect", file, "--textconv").out.strip() == ROSES.read_text().strip()
    assert run("inspect", picturebook, "--textconv").out == "# Stable Diffusion 1.x without edits, a single file\n"


@pytest.mark.parametrize("family", list(small_models.FAMILIES))
@pytest.mark.parametrize("form", ["file", "folder"])
def test_an_architecture_that_the_tensors_do_not_prove_is_not_written(family: str, form: str, tmp_path: Path) -> None:
    """FLUX.1 dev and schnell, Chroma and its Radiance, Qwen-Image and its editors have the same names."""
    folder = small_models.saved(family, tmp_path / "model")
    path = folder if form == "folder" else tmp_path / "x.safetensors"
    for about in ({}, {"modelspec.architecture": "flux-1-schnell", "modelspec.implementation": "its own"}):
        if form == "folder":
            network = folder / "transformer" / "diffusion_pytorch_model.safetensors"
            save_file(load_file(network), network, {"format": "pt", **about})
        else:
            save_file(small_models.single(family, folder), path, {"format": "pt", **about})
        found = provenance.metadata(open_checkpoint(path, needs="nothing"), [{"name": "blue"}])
        assert found.get("modelspec.architecture") == about.get("modelspec.architecture")
        assert found.get("modelspec.implementation") == about.get(
            "modelspec.implementation", "diffusers" if form == "folder" else None
        )
        assert "modelspec.resolution" not in found and found["modelspec.title"].endswith(" + blue")


def test_an_architecture_that_they_prove_is(small: Path, tmp_path: Path) -> None:
    """A UNet that is fed noise alone: one for filling in has the same maps, and is another architecture."""
    for channels, wanted in ((4, "stable-diffusion-v1"), (9, None), (8, None)):
        path = tmp_path / f"{channels}.safetensors"
        first = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, channels, 3, 3)}
        save_file(load_file(small) | first, path)
        assert provenance.metadata(open_checkpoint(path), []).get("modelspec.architecture") == wanted


def test_a_lora_says_no_architecture_that_is_not_proved_and_is_known_again(run: Run, tmp_path: Path) -> None:
    folder = small_models.saved("flux", tmp_path / "model")
    (tmp_path / "m.toml").write_text(TEXT.replace("[[edit]]", "[preserve]\neveryday = false\n[[edit]]"))
    assert run("edit", tmp_path / "m.toml", folder, "--delta", tmp_path / "d").code == 0
    for form in ("lora", "peft"):
        path = tmp_path / f"{form}.safetensors"
        assert run("export", tmp_path / "d", folder, "--format", form, "-o", path).code == 0
        assert "modelspec.architecture" not in metadata(path)
        about = json.loads(run("inspect", path, "--json").out)
        assert (about["form"], about["architecture"]) == ("adapter", "not stated")
        assert about["edits"][0]["name"] == "blue"
