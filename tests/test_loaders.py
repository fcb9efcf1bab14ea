"""Loaders that are not ours read an exported adapter, and what they make of the weights is what we make of them.

ComfyUI is no package: beside a checkout, with its requirements installed, run
`PYTHONPATH=ComfyUI pytest tests/test_loaders.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli import export, layouts
from timecli.checkpoint import Checkpoint, open_checkpoint
from timecli.delta import Delta, Origin
from timecli.solve import apply, factored
from timecli.writing import write_tensors

from .conftest import ldm

ROWS = (320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320)
"""How many rows the matrices of each of SD 1's cross-attention layers have."""
WIDTH = 768


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The 32 matrices of an SD 1 file, in their real sizes."""
    path, random = tmp_path_factory.mktemp("sd1") / "sd1.safetensors", torch.Generator().manual_seed(0)
    save_file({ldm(m): torch.randn(ROWS[m.layer], WIDTH, generator=random) for m in layouts.SD1.matrices}, path)
    return open_checkpoint(path, needs_text=False)


@pytest.fixture(scope="module")
def delta() -> Delta:
    random = torch.Generator().manual_seed(1)
    left, right = torch.randn(WIDTH, 5, generator=random), torch.randn(5, WIDTH, generator=random)
    origin = Origin("x", "", "0", "", (0.1,), ("k", "v"), None, ())
    return Delta(factored(0.01 * left @ right), origin)


@pytest.fixture(scope="module")
def lora(model: Checkpoint, delta: Delta, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, rank = tmp_path_factory.mktemp("lora") / "lora.safetensors", delta.operator.rank
    made = export.adapter(model, delta, "lora", torch.float32, delta.operator)
    write_tensors(path, made.tensors, export.about(model, delta, rank, "lora", []))
    return path


def changes(model: Checkpoint, delta: Delta) -> dict[layouts.Matrix, tuple[torch.Tensor, torch.Tensor]]:
    """Each matrix before, and how the edit changes it."""
    return {
        place.matrix: (weight, apply(weight.double(), delta.operator) - weight) for place, weight in model.projections()
    }


def test_sd_mecha_finds_the_same_change(model: Checkpoint, delta: Delta, lora: Path) -> None:
    sd_mecha = pytest.importorskip("sd_mecha")
    found: dict[str, torch.Tensor] = {}
    recipe = sd_mecha.convert(sd_mecha.model(lora), "sd1-kohya")
    options = {"output_dtype": torch.float32, "merge_dtype": torch.float32, "strict_mandatory_keys": False}
    sd_mecha.merge(recipe, output=found, strict_merge_space="delta", **options)
    found.pop("__metadata__", None)
    assert len(found) == 32, "it has read every matrix and nothing else"
    for matrix, (_, wanted) in changes(model, delta).items():
        change = found[f"unet.{matrix.names[layouts.DIFFUSERS]}"].double()
        assert (change - wanted).norm() / wanted.norm() < 1e-5, matrix


def test_comfyui_patches_the_weights_to_ours(
    model: Checkpoint, delta: Delta, lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["comfy", "--cpu"])
    pytest.importorskip("comfy.options").enable_args_parsing()
    comfy_lora, convert = pytest.importorskip("comfy.lora"), pytest.importorskip("comfy.lora_convert")
    unet = {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
    }
    names = {f"diffusion_model.{m.names[layouts.LDM]}": m for m in layouts.SD1.matrices}
    asked = SimpleNamespace(state_dict=lambda: names, model_config=SimpleNamespace(unet_config=unet))
    keys = comfy_lora.model_lora_keys_unet(asked, {})
    patches = comfy_lora.load_lora(convert.convert_lora(load_file(lora)), keys)
    assert set(patches) == set(names), "it has found every matrix and nothing else"
    wanted = changes(model, delta)
    for name, matrix in names.items():
        before, change = wanted[matrix]
        one = [(1.0, patches[name], 1.0, None, None)]
        after = comfy_lora.calculate_weight(one, before.clone(), name).double()
        assert (after - before - change).norm() / change.norm() < 1e-5, matrix
