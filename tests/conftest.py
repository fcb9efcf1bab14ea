"""Shared models. picturebook is the real one; the small ones have SD 1.x's names and CLIP's vocabulary."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli import cli
from timecli.models import layouts, streams
from timecli.models.checkpoint import Checkpoint, open_checkpoint
from timecli.text import encoding
from timecli.text.readers import TextEncoder

if "GPU" not in os.environ:  # bytes are compared, and the last digits of a sum differ from device to device
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, and so do the processes that they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent
PICTUREBOOK = ROOT / "examples" / "picturebook"
EXACT = ("--tolerance", 0, "--dtype", "fp32")
"""A LoRA that is the whole edit, in the precision of its delta."""
FEW = "A barn\nA dog\n"
"""A list of everyday prompts, all of which `verify` draws beside a manifest's own."""
ROSES = ROOT / "edits" / "picturebook" / "blue-roses-plain.toml"


STARTED = time.monotonic()

gc.disable()  # until all tests are collected: what that imports stays


def pytest_collection_finish() -> None:
    """A collection of garbage does not look at half a million objects of torch and diffusers each time."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


def pytest_runtest_setup() -> None:
    """`QUICK=30` begins no test after 30 s."""
    if (limit := os.environ.get("QUICK")) and time.monotonic() - STARTED > float(limit):
        pytest.skip(f"not begun within {limit} s")


@pytest.fixture(autouse=True)
def plain_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same plain text everywhere, whatever terminal runs the suite."""
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither network nor autoencoder says how large its pictures are."""
    monkeypatch.setattr("timecli.drawing.networks.DEFAULT_SIDE", 64)


@pytest.fixture(autouse=True)
def few_everyday_prompts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` draws two everyday prompts and the two that move most; eight of each where a test is of these."""
    if "all_everyday_prompts" not in request.fixturenames:
        for place in ("manifests.rows", "editing.preview"):
            monkeypatch.setattr(f"timecli.{place}.EVERYDAY", 2)


@pytest.fixture
def all_everyday_prompts() -> None:
    """As many everyday prompts as users get."""


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of the suite's own, also for the processes that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The first words of a command that runs `timecli` in a process of its own, which has the libraries at once."""
    script, address = str(ROOT / "tests" / "forked.py"), str(tmp_path_factory.mktemp("forked") / "socket")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script, "serve", address], env=environment, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout and server.stdout.readline() == b"\n"
        yield [sys.executable, "-I", "-S", script, "run", address]
        server.terminate()


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def picturebook() -> Path:
    return PICTUREBOOK / "picturebook.safetensors"


@pytest.fixture(scope="session")
def model(picturebook: Path) -> Checkpoint:
    return open_checkpoint(picturebook)


@pytest.fixture(scope="session")
def encoder(model: Checkpoint) -> TextEncoder:
    return encoding.read_text_encoder(model, None, torch.device("cpu"))


@pytest.fixture(scope="session")
def picturebook_fp32(picturebook: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """picturebook in float32, with its config folder beside it."""
    folder = tmp_path_factory.mktemp("fp32")
    (folder / "config").symlink_to(PICTUREBOOK / "config", target_is_directory=True)
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in load_file(picturebook).items()}
    save_file(tensors, folder / "picturebook.safetensors", {"format": "pt"})
    return folder / "picturebook.safetensors"


@pytest.fixture(scope="session")
def picturebook_folder(picturebook: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """picturebook as diffusers itself saves it, in float32."""
    from diffusers import StableDiffusionPipeline

    folder = tmp_path_factory.mktemp("folder") / "picturebook"
    StableDiffusionPipeline.from_single_file(
        str(picturebook),
        config=str(PICTUREBOOK / "config"),
        local_files_only=True,
        safety_checker=None,
        torch_dtype=torch.float32,
    ).save_pretrained(folder)
    return folder


def small_manifest(folder: Path) -> Path:
    """An edit of which `verify` draws four prompts before it and three after it."""
    (folder / "few.txt").write_text(FEW)
    (folder / "small.toml").write_text(
        'name = "small"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n[preserve]\neveryday = "few.txt"\n'
    )
    return folder / "small.toml"


def ldm(matrix: streams.Matrix) -> str:
    """The matrix's name in a whole single file."""
    return "model.diffusion_model." + matrix.names[streams.LDM]


def small_tensors(
    width: int = 64, text_width: int = 64, vocabulary: int = 49408, rows: int = 32
) -> dict[str, torch.Tensor]:
    """Random weights under SD 1.x's names: a one-layer text encoder, the 32 matrices, and a few bystanders."""
    random = torch.Generator().manual_seed(0)

    def make(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random) * 0.05

    prefix = layouts.SD1.towers[0].prefixes[0]
    tensors = {
        f"{prefix}embeddings.token_embedding.weight": make(vocabulary, text_width),
        f"{prefix}embeddings.position_embedding.weight": make(77, text_width),
        f"{prefix}embeddings.position_ids": torch.arange(77)[None],
        f"{prefix}final_layer_norm.weight": torch.ones(text_width),
        f"{prefix}final_layer_norm.bias": make(text_width),
    }
    layer = f"{prefix}encoder.layers.0."
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        tensors |= {
            f"{layer}self_attn.{name}.weight": make(text_width, text_width),
            f"{layer}self_attn.{name}.bias": make(text_width),
        }
    for name, shape in (("fc1", (128, text_width)), ("fc2", (text_width, 128))):
        tensors |= {f"{layer}mlp.{name}.weight": make(*shape), f"{layer}mlp.{name}.bias": make(shape[0])}
    for name in ("layer_norm1", "layer_norm2"):
        tensors |= {f"{layer}{name}.weight": torch.ones(text_width), f"{layer}{name}.bias": make(text_width)}
    tensors |= {ldm(matrix): make(rows, width) for matrix in layouts.SD1.matrices}
    return tensors | {"v_pred": torch.zeros(0), "model_ema.decay": torch.tensor(0.9999), "betas": make(1000)}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SD 1.x file without config or tokenizer."""
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_file(small_tensors(), path, {"format": "pt", "modelspec.title": "small"})
    return path


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium, once for all tests of pages."""
    pytest.importorskip("selenium", reason="the page is looked at through selenium")
    from . import browser

    if not (browser.CHROMIUM.exists() and browser.DRIVER.exists()):
        pytest.skip("the page is looked at in Chromium, which is not installed (chromium, chromium-driver)")
    with browser.window(tmp_path_factory.mktemp("profile")) as opened:
        yield opened
