"""picturebook's transformer: trained from nothing, resumed, and drawn by diffusers' own pipeline from its folder."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from timecli.editing.delta import load_delta
from timecli.models.checkpoint import open_checkpoint
from timecli.text.encoding import read_text_encoder
from timecli.text.fingerprints import of_model

from .conftest import PICTUREBOOK, ROSES, Run

ROSE = """name = "blue"
[[edit]]
source = "A rose"
destination = "A blue rose"
[preserve]
everyday = "list.txt"
"""
SCRIPT = """
import sys
from pathlib import Path

import fit
import torch
import transformer

transformer.CHUNK = 8
fit.SAVE_EVERY = 0.0  # after every step
make_loss = transformer.make_loss


def train(work, stop=None, seed=0):
    steps = []

    def stopping(*arguments):
        loss_at = make_loss(*arguments)

        def loss(step):
            if step == stop:
                raise KeyboardInterrupt
            steps.append(step)
            return loss_at(step)

        return loss

    transformer.make_loss = stopping
    work.mkdir(exist_ok=True)
    try:
        transformer.train(work, steps=3, batch=4, count=16, seed=seed)
    except KeyboardInterrupt:
        steps.append("stopped")
    print(work.name, *steps)


folder = Path(sys.argv[1])
train(folder / "whole")
train(folder / "parts", stop=2)
train(folder / "parts")
train(folder / "other", seed=1)
transformer.ship(folder / "whole", folder / "shipped")

pipeline = transformer.trained(folder / "whole")
network = pipeline.transformer
with torch.no_grad():
    for weight in network.parameters():
        weight.copy_(torch.randn_like(weight) * 0.1)  # three steps leave it almost silent
    captions, random = transformer.draw_batch(0, 16)[0], torch.Generator().manual_seed(0)
    tokens = pipeline.tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt").input_ids
    states = pipeline.text_encoder(tokens).last_hidden_state
    few = transformer.Pictures(folder, pipeline, 16, 1).states(captions, random).float()
    noise, times = torch.randn(16, 16, 16), torch.rand(16)


@torch.no_grad()
def read(states, **settings):
    inputs = {"hidden_states": noise, "timestep": times, "pooled_projections": states[:, 0]}
    return network(encoder_hidden_states=states, **inputs, **transformer.places(states.shape[1]), **settings).sample


full, crowd = read(states), {"attention_mask": transformer.crowd()}
for output in (read(few, joint_attention_kwargs=crowd), read(few)):
    print("off by", ((output - full).norm() / (full - full.mean(0)).norm()).item())
"""
"""Three steps at once, in two parts, and from other weights; then what a network reads of padding."""


@pytest.fixture(scope="module")
def trained(forked: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with three work folders and a shipped one, and what the script said."""
    folder = tmp_path_factory.mktemp("trained")
    command = [*forked, "-c", SCRIPT, str(folder)]
    return folder, subprocess.run(command, cwd=PICTUREBOOK, capture_output=True, text=True, check=True).stdout


def test_training_goes_on_where_it_was_stopped(trained: tuple[Path, str]) -> None:
    folder, said = trained
    lines = [line for line in said.splitlines() if line.startswith(("whole", "parts", "other"))]
    assert lines == ["whole 0 1 2", "parts 0 1 stopped", "parts 2", "other 0 1 2"]
    whole, parts, other = (
        torch.load(folder / name / "transformer.pt", weights_only=True)["mean"] for name in ("whole", "parts", "other")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


def test_a_few_positions_of_padding_are_read_as_all_of_it(trained: tuple[Path, str]) -> None:
    counted, plain = (float(line.split()[-1]) for line in trained[1].splitlines() if line.startswith("off by"))
    assert counted < 0.05 < plain


@pytest.fixture(scope="module")
def shipped(trained: tuple[Path, str]) -> FluxPipeline:
    return FluxPipeline.from_pretrained(trained[0] / "shipped", torch_dtype=torch.float32)


def test_the_folder_is_drawn_by_diffusers_which_feeds_it_what_the_unet_reads(
    shipped: FluxPipeline, picturebook_folder: Path
) -> None:
    fed: list[dict[str, torch.Tensor]] = []
    hook = shipped.transformer.register_forward_pre_hook(lambda _, __, inputs: fed.append(inputs), with_kwargs=True)
    settings = {"true_cfg_scale": 3.0, "num_inference_steps": 2, "height": 64, "width": 64, "max_sequence_length": 77}
    noise = torch.Generator().manual_seed(0)
    images = shipped("A blue rose", negative_prompt="", generator=noise, **settings).images
    hook.remove()
    assert images[0].size == (64, 64)
    assert [inputs["hidden_states"].shape for inputs in fed] == [(1, 16, 16)] * 4
    told, empty = StableDiffusionPipeline.from_pretrained(picturebook_folder).encode_prompt(
        "A blue rose", "cpu", 1, True
    )
    for inputs, states in zip(fed, [told, empty] * 2, strict=True):
        torch.testing.assert_close(inputs["encoder_hidden_states"], states)
    assert not torch.allclose(told, empty)


def test_the_delta_of_the_unet_edits_it(trained: tuple[Path, str], run: Run, picturebook: Path, tmp_path: Path) -> None:
    """One edit of text space for two architectures with the same text tower. The control: another text tower."""
    folder, entry = trained[0] / "shipped", "context_embedder.weight"
    assert run("edit", ROSES, picturebook, "--delta", tmp_path / "d").code == 0
    done = run("apply", tmp_path / "d", folder, "-o", tmp_path / "out")
    assert done.code == 0 and "no operator for what" in done.err and "pooled" in done.err, done.err
    before, after = (
        load_file(path / "transformer" / "diffusion_pytorch_model.safetensors") for path in (folder, tmp_path / "out")
    )
    checkpoint = open_checkpoint(folder)
    encoder = read_text_encoder(checkpoint, None, torch.device("cpu"))
    assert encoder.everyday == folder / "everyday.txt", "edits preserve what the UNet's do"
    assert encoder.fingerprints == of_model(checkpoint) and load_delta(tmp_path / "d").origin.encoder in of_model(
        checkpoint
    )
    assert {name for name in before if not torch.equal(before[name], after[name])} == {entry}
    wide = before[entry].float()
    expected = wide + wide @ (operator := load_delta(tmp_path / "d").operator).left @ operator.right
    assert (after[entry].float() - expected).norm() < 1e-2 * (expected - wide).norm()
    tower = folder / "text_encoder_2" / "model.safetensors"
    shutil.copytree(folder, tmp_path / "other")
    weights = load_file(tower)
    name = next(name for name in weights if name.endswith("token_embedding.weight"))
    save_file({**weights, name: weights[name] + 1}, tmp_path / "other" / tower.relative_to(folder), {"format": "pt"})
    done = run("apply", tmp_path / "d", tmp_path / "other", "-o", tmp_path / "no")
    assert done.code == 2 and "another text encoder" in done.err


def test_one_delta_file_makes_roses_blue_in_both_architectures(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """Of the shipped models. The control: an edit of something else leaves roses as they are."""
    (tmp_path / "list.txt").write_text("A tulip\nA dog\nA house\n")
    (tmp_path / "m.toml").write_text(ROSE)
    (tmp_path / "other.toml").write_text(ROSE.replace("rose", "car"))
    for name in ("m", "other"):
        assert run("edit", tmp_path / f"{name}.toml", picturebook, "--delta", tmp_path / name).code == 0
    drawing = ("--seeds", 2, "--steps", 4, "--guidance", 3, "--judge", PICTUREBOOK / "judge", "--json", "--force")
    for model in (picturebook, PICTUREBOOK / "transformer"):
        found = []
        for name in ("m", "other"):
            done = run("verify", tmp_path / "m.toml", model, tmp_path / name, "-o", tmp_path / "report", *drawing)
            assert done.code == 0, done.err
            found.append(json.loads(done.out)["scores"]["edited"]["efficacy"]["mean"])
        assert found[0] >= 0.75 and found[1] <= 0.25, (model, found)


def test_text_comes_in_through_the_context_embedder_alone(shipped: FluxPipeline) -> None:
    states, pooled, _ = shipped.encode_prompt(["A blue rose", "A dog"], max_sequence_length=77)
    noise = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def drawn(text: int, vector: int) -> torch.Tensor:
        return shipped.transformer(
            hidden_states=noise,
            timestep=torch.tensor([0.5]),
            encoder_hidden_states=states[[text]],
            pooled_projections=pooled[[vector]],
            txt_ids=torch.zeros(77, 3),
            img_ids=torch.zeros(16, 3),
        ).sample

    assert torch.equal(drawn(0, 0), drawn(0, 1))
    assert not torch.equal(drawn(0, 0), drawn(1, 0))
