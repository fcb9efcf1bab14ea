"""SD 3 without T5: its pipeline puts zeros in T5's place, and an edit is compiled for what it draws."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from timecli.editing.delta import load_delta
from timecli.models.checkpoint import open_checkpoint
from timecli.models.streams import TEXT
from timecli.text import encoding

from . import small
from .conftest import Run
from .test_transformers import CPU, SOURCE, drawn, manifest, oracle, read, text_of

__all__ = ["manifest"]  # the fixture
SAID = "has no T5-XXL: its rows of the text are zeros"


def without(folder: Path) -> Any:
    """As diffusers' own documentation opens it."""
    pipeline = diffusers.StableDiffusion3Pipeline.from_pretrained(
        folder, text_encoder_3=None, tokenizer_3=None, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved("sd3", tmp_path_factory.mktemp("sd3") / "whole")


@pytest.fixture(scope="module")
def model(whole: Path) -> Path:
    """As diffusers saves it."""
    pipeline = small.sd3()
    pipeline.register_modules(text_encoder_3=None, tokenizer_3=None)
    pipeline.save_pretrained(whole.parent / "model")
    assert json.loads((whole.parent / "model" / "model_index.json").read_text())["text_encoder_3"] == [None, None]
    return whole.parent / "model"


def test_the_text_is_the_pipeline_s_and_what_is_left_out_is_zeros(model: Path) -> None:
    found = read(model).embed([SOURCE])[0]
    states = text_of(without(model))[0][0].double()
    assert torch.allclose(found, states[: len(found)], atol=1e-6) and len(found) == 77
    assert len(states) > len(found) and not states[len(found) :].any()


def test_an_edit_is_what_the_unedited_network_draws_of_edited_text(
    run: Run, model: Path, manifest: Path, tmp_path: Path
) -> None:
    done = run("edit", manifest, model, "-o", tmp_path / "out", "--delta", tmp_path / "d", "--no-cache")
    assert done.code == 0 and SAID in done.err, done.err
    wanted, before = drawn(without(tmp_path / "out"), prompt=SOURCE), drawn(without(model), prompt=SOURCE)
    encoder, delta = read(model), load_delta(tmp_path / "d")
    made = oracle(without(model), encoder, delta, encoder.family.streams)
    assert (made - wanted).norm() < 1e-3 * (before - wanted).norm()
    alone = oracle(without(model), encoder, delta, (TEXT,))
    assert (alone - wanted).norm() > 1e-2 * (before - wanted).norm(), "the control: one stream left out"
    done = run("verify", manifest, model, "-o", tmp_path / "r", "--seeds", "1", "--steps", "1", "--no-cache")
    assert done.code == 0 and SAID in done.err, done.err
    again = run("apply", tmp_path / "d", model, "-o", tmp_path / "again")
    name = "transformer/diffusion_pytorch_model.safetensors"
    assert again.code == 0 and (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize("inside", [True, False], ids=["CLIPs inside", "CLIPs given"])
def test_a_file_with_the_two_clips_needs_no_t5(
    inside: bool, run: Run, whole: Path, model: Path, manifest: Path, tmp_path: Path
) -> None:
    """The folder of configs is the model's, which names T5; its weights are nowhere."""
    config, file = small.config_only(whole, tmp_path / "config"), tmp_path / "sd3.safetensors"
    texts, given, tensors = small.text_encoders(whole), [], small.single("sd3", whole)
    for part, name in (("text_encoder", "clip_l"), ("text_encoder_2", "clip_g")):
        if inside:
            tensors |= {f"text_encoders.{name}.transformer.{key}": tensor for key, tensor in texts[part].items()}
        else:
            save_file(texts[part], tmp_path / name)
            given += ["--text-encoder", tmp_path / name]
    save_file(tensors, file)
    options = ("--config", config, "--no-cache", *given)
    done = run("edit", manifest, file, *options, "--delta", tmp_path / "one")
    assert done.code == 0 and SAID in done.err, done.err
    assert run("edit", manifest, model, "--no-cache", "--delta", tmp_path / "other").code == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    save_file(texts["text_encoder_3"], tmp_path / "t5")
    done = run("edit", manifest, file, *options, "--text-encoder", tmp_path / "t5", "--delta", tmp_path / "third")
    assert done.code == 0 and SAID not in done.err, "the control"
    assert (tmp_path / "one").read_bytes() != (tmp_path / "third").read_bytes()
    refused = run("apply", tmp_path / "third", file, *options[:2], *given, "-o", tmp_path / "out.safetensors")
    assert refused.code == 2 and "compiled for another text encoder" in refused.err


def test_a_t5_that_the_index_does_not_list_is_not_drawn_with(
    whole: Path, model: Path, run: Run, manifest: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    index = json.loads((folder / "model_index.json").read_text())
    none = {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (folder / "model_index.json").write_text(json.dumps({**index, **none}))
    for path, out in ((folder, "one"), (model, "other"), (whole, "third")):
        assert run("edit", manifest, path, "--no-cache", "--delta", tmp_path / out).code == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "third").read_bytes(), "the control"


def test_what_a_pipeline_cannot_do_without_is_demanded(whole: Path, run: Run, manifest: Path, tmp_path: Path) -> None:
    """A T5 whose weights are a pickle is there, and bigG is no option."""
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    t5 = folder / "text_encoder_3" / "model.safetensors"
    t5.rename(t5.with_name("pytorch_model.bin"))
    done = run("plan", manifest, folder, "--no-cache")
    assert done.code == 2 and "has no text encoder T5-XXL" in done.err
    (folder / "text_encoder_2" / "model.safetensors").unlink()
    done = run("plan", manifest, folder, "--no-cache")
    assert done.code == 2 and "has no text encoder OpenCLIP ViT-bigG" in done.err
    assert encoding.read_text_encoder(open_checkpoint(whole), None, CPU).cautions == (), "the control"
