"""picturebook's transformer: trained from nothing, resumed, and drawn by diffusers' own pipeline from its folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline, StableDiffusionPipeline
from safetensors.torch import load_file

from .conftest import PICTUREBOOK

TRAIN = """
import sys
from functools import partial
from pathlib import Path

import fit
import models
import transformer

transformer.CHUNK = 8
fit.SAVE_EVERY = 0.0  # after every step
folder, stop, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
steps, loss = [], transformer.make_loss


def make_loss(*arguments):
    loss_at = loss(*arguments)

    def stopping(step):
        if step == stop:
            raise SystemExit
        steps.append(step)
        return loss_at(step)

    return stopping


transformer.make_loss = make_loss
transformer.train(folder, steps=3, batch=4, count=16, seed=seed)
print(steps)
"""
"""Three steps on a few pictures; stopped before one of them, or not."""


def trained(work: Path, stop: int = -1, seed: int = 0) -> str:
    command = [sys.executable, "-c", TRAIN, str(work), str(stop), str(seed)]
    return subprocess.run(command, cwd=PICTUREBOOK, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder after three steps."""
    work = tmp_path_factory.mktemp("work")
    assert trained(work).splitlines()[-1] == "[0, 1, 2]"
    return work


def weights(work: Path) -> dict[str, torch.Tensor]:
    return torch.load(work / "transformer.pt", weights_only=True)["mean"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


def test_training_goes_on_where_it_was_stopped(work: Path, tmp_path: Path) -> None:
    trained(tmp_path / "a", stop=2)
    assert not same(weights(tmp_path / "a"), weights(work))
    assert trained(tmp_path / "a").splitlines()[-1] == "[2]"
    assert same(weights(tmp_path / "a"), weights(work))
    trained(tmp_path / "b", seed=1)
    assert not same(weights(tmp_path / "b"), weights(work))


@pytest.fixture(scope="module")
def shipped(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped") / "transformer"
    command = [sys.executable, "transformer.py", "--ship", "--work", str(work), "--out", str(folder)]
    subprocess.run(command, cwd=PICTUREBOOK, check=True)
    return folder


def test_the_folder_is_drawn_by_diffusers_which_feeds_it_what_the_unet_reads(
    shipped: Path, picturebook_folder: Path
) -> None:
    pipeline = FluxPipeline.from_pretrained(shipped, torch_dtype=torch.float32)
    fed: list[dict[str, torch.Tensor]] = []
    pipeline.transformer.register_forward_pre_hook(lambda _, __, inputs: fed.append(inputs), with_kwargs=True)
    settings = {"true_cfg_scale": 3.0, "num_inference_steps": 2, "height": 64, "width": 64, "max_sequence_length": 77}
    noise = torch.Generator().manual_seed(0)
    images = pipeline("A blue rose", negative_prompt="", generator=noise, **settings).images
    assert images[0].size == (64, 64)
    assert [inputs["hidden_states"].shape for inputs in fed] == [(1, 16, 16)] * 4
    told, empty = StableDiffusionPipeline.from_pretrained(picturebook_folder).encode_prompt(
        "A blue rose", "cpu", 1, True
    )
    for inputs, states in zip(fed, [told, empty] * 2, strict=True):
        torch.testing.assert_close(inputs["encoder_hidden_states"], states)
    assert not torch.allclose(told, empty)


def test_text_comes_in_through_the_context_embedder_alone(shipped: Path) -> None:
    tensors = load_file(shipped / "transformer" / "diffusion_pytorch_model.safetensors")
    assert not tensors["time_text_embed.text_embedder.linear_1.weight"].any()
    assert tensors["context_embedder.weight"].any()
    assert tensors["context_embedder.weight"].shape[1] == 192
