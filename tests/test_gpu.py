"""On a GPU the same edit, forecast and pictures as on the CPU: GPU=1 python -m pytest tests/test_gpu.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from timecli.drawing import memory, render
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding

from .conftest import ROOT, Run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU with CUDA, or not asked for with GPU=1")

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ROSES = ROOT / "edits" / "picturebook" / "blue-roses.toml"
DRAWN = ("--seeds", "2", "--steps", "4", "--guidance", "3")
PROMPTS = ("A pack of roses", "A dog in the snow")


def moved(one: Path, other: Path) -> float:
    """‖one − other‖ over all tensors of two files."""
    tensors, others = load_file(one), load_file(other)
    return sum(float((tensors[name].float() - others[name].float()).square().sum()) for name in tensors) ** 0.5


def test_an_edit_is_that_of_the_cpu_and_the_same_every_time(run: Run, picturebook: Path, tmp_path: Path) -> None:
    made = {"cpu": ("cpu", 1), "gpu": ("cuda", 1), "again": ("cuda", 1), "less": ("cpu", 0.99)}
    for name, (device, strength) in made.items():
        how = ("--device", device, "--strength", strength, "--no-cache")
        assert run("edit", ROSES, picturebook, "-o", tmp_path / name, *how).code == 0
    assert (tmp_path / "gpu").read_bytes() == (tmp_path / "again").read_bytes()
    edit = moved(tmp_path / "cpu", picturebook)
    assert moved(tmp_path / "gpu", tmp_path / "cpu") < 1e-3 * edit
    assert moved(tmp_path / "less", tmp_path / "cpu") > 1e-3 * edit, "the control"


def test_everyday_prompts_of_a_gpu_serve_the_cpu(run: Run, picturebook: Path, tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        made = run("everyday", picturebook, "-o", tmp_path / device, "--device", device, "--no-cache")
        assert made.code == 0, made.err
    wanted, found = (load_file(tmp_path / device)["root"] for device in ("cpu", "cuda"))
    assert (found.T @ found - wanted.T @ wanted).norm() < 1e-5 * (wanted.T @ wanted).norm()
    given = run(
        "edit", ROSES, picturebook, "--everyday", tmp_path / "cuda", "--delta", tmp_path / "d", "--device", "cpu"
    )
    assert given.code == 0, given.err


def test_a_forecast_is_that_of_the_cpu(run: Run, picturebook: Path) -> None:
    def shares(device: str) -> list[float]:
        told = run("plan", ROSES, picturebook, "--device", device, "--json")
        assert told.code == 0, told.err
        return [row["share"] for row in json.loads(told.out)["forecasts"] if row["share"] is not None]

    wanted = shares("cpu")
    assert shares("cuda") == pytest.approx(wanted, abs=1e-3) and len(wanted) > 10


def pictures(picturebook: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """Pictures of some prompts `[n, height, width, 3]`, 0 to 255."""
    checkpoint = open_checkpoint(picturebook)
    pipeline = render.load_pipeline(checkpoint, encoding.read_text_encoder(checkpoint, None, device), device, dtype)
    drawn = render.render(pipeline, PROMPTS, render.Settings((0, 1), 4, 3.0), lambda _: None)
    return np.stack([np.asarray(image, np.float32) for prompt in PROMPTS for image in drawn[prompt]])


def test_pictures_are_those_of_the_cpu(picturebook: Path) -> None:
    wanted = pictures(picturebook, CPU)
    for dtype, levels in ((torch.float32, 1), (torch.float16, 2), (torch.bfloat16, 8)):
        assert np.abs(pictures(picturebook, GPU, dtype) - wanted).mean() < levels, dtype
    assert np.abs(wanted[:2] - wanted[2:]).mean() > 30, "the control: of other prompts"


def test_parts_that_take_turns_draw_the_same(picturebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pictures(picturebook, GPU)
    monkeypatch.setattr(memory, "free", lambda _: 2**20)
    turns = pictures(picturebook, GPU)
    assert np.abs(turns - whole).max() <= 1


def test_verify_draws_in_half_precision(run: Run, picturebook: Path, tmp_path: Path) -> None:
    done = run("verify", ROSES, picturebook, "-o", tmp_path / "report", *DRAWN, "--json")
    assert done.code == 0, done.err
    told: dict[str, Any] = json.loads(done.out)
    assert (told["device"], told["precision"]) == ("cuda", "float16")
