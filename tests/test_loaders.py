"""Loaders that are not ours read an exported adapter, and what they make of the weights is what we make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.editing.delta import Delta, Origin
from timecli.editing.solve import Operator, apply
from timecli.files.rewriting import write_tensors
from timecli.models import layouts, streams
from timecli.models.checkpoint import Checkpoint, open_checkpoint
from timecli.shipping import export

from .conftest import ldm

FAMILIES = {
    # family, sd-mecha's name for kohya's LoRAs of it, text width
    "sd1": (layouts.SD1, "sd1-kohya", 768),
    "sd2": (layouts.SD2, None, 1024),
    "sdxl": (layouts.SDXL, "sdxl-kohya", 2048),
}
SD1_ROWS = (320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320)
"""How many rows the matrices of each of SD 1's cross-attention layers have."""
SDXL_ROWS = {0: 640, 4: 1280, 33: 1280, 69: 640}
"""The same for one SDXL layer of the first and the last blocks, and two of the deep ones."""


@pytest.fixture(scope="module", params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The matrices of a family's single file: SD 1's in their real sizes, of SDXL some, the others with few rows."""
    family, _, width = FAMILIES[name]
    path, random = tmp_path_factory.mktemp(name) / "model.safetensors", torch.Generator().manual_seed(0)
    rows = dict(enumerate(SD1_ROWS)) if name == "sd1" else SDXL_ROWS if name == "sdxl" else {}
    save_file({ldm(m): torch.randn(rows.get(m.layer, 8), width, generator=random) for m in family.matrices}, path)
    checkpoint = open_checkpoint(path, needs="nothing")
    assert checkpoint.family is family
    return checkpoint


@pytest.fixture(scope="module")
def delta(model: Checkpoint) -> Delta:
    random, operators = torch.Generator().manual_seed(1), {}
    for stream, width in zip(model.family.streams, (model.width, 1280), strict=False):
        left, right = torch.randn(width, 5, generator=random), torch.randn(5, width, generator=random)
        operators[stream] = Operator(0.01 * left, right, 1.0)
    return Delta(operators, Origin("x", "", "0", "", (0.1,), ("k", "v"), None, ()))


@pytest.fixture(scope="module")
def lora(model: Checkpoint, delta: Delta, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    made = export.adapter(model, delta, "lora", torch.float32, delta)
    write_tensors(path, made.tensors, export.about(model, delta, "lora", []))
    return path


def changes(model: Checkpoint, delta: Delta) -> dict[streams.Matrix, tuple[torch.Tensor, torch.Tensor]]:
    """Each matrix before, and how the edit changes it."""
    return {
        place.matrix: (weight, apply(weight.double(), delta.operators[place.matrix.stream]) - weight)
        for place, weight in model.projections()
    }


def kohyas_modules(name: str) -> set[str]:
    """The cross-attention modules that kohya's trainer would train in a model: every `to_k` and `to_v` of an `attn2`.

    kohya-ss/sd-scripts, networks/lora.py: a module's name in the UNet that it builds, dots as underscores, behind
    `lora_unet_`. Its UNet is diffusers' for SD 1 and SD 2 (library/original_unet.py) and the original code's for SDXL
    (library/sdxl_original_unet.py: input_blocks, middle_block, output_blocks).
    """
    if name != "sdxl":
        places = [f"down_blocks_{i}_attentions_{j}" for i in range(3) for j in range(2)]
        places += ["mid_block_attentions_0", *(f"up_blocks_{i}_attentions_{j}" for i in (1, 2, 3) for j in range(3))]
        layers = [(place, 0) for place in places]
    else:
        depths = {
            "input_blocks_4": 2,
            "input_blocks_5": 2,
            "input_blocks_7": 10,
            "input_blocks_8": 10,
            "middle_block": 10,
        }
        depths |= {f"output_blocks_{i}": 10 if i < 3 else 2 for i in range(6)}
        layers = [(f"{block}_1", i) for block, depth in depths.items() for i in range(depth)]
    return {f"lora_unet_{p}_transformer_blocks_{i}_attn2_to_{kind}" for p, i in layers for kind in "kv"}


def test_the_names_are_kohyas(name: str, model: Checkpoint, delta: Delta, lora: Path) -> None:
    modules = {key.split(".")[0] for key in load_file(lora)}
    pooled = {"lora_unet_label_emb_0_0"} if name == "sdxl" else set()  # kohya's trainer leaves it alone
    assert modules == kohyas_modules(name) | pooled and len(modules) == len(model.family.matrices)
    dense = export.adapter(model, delta, "diff", torch.float32, delta).tensors
    assert {key.split(".")[0] for key in dense} == modules
    peft = export.adapter(model, delta, "peft", torch.float32, delta).tensors
    assert {key.rsplit(".", 2)[0] for key in peft} == {
        f"unet.{m.names[streams.DIFFUSERS].removesuffix('.weight')}" for m in model.family.matrices
    }


def test_sd_mecha_finds_the_same_change(name: str, model: Checkpoint, delta: Delta, tmp_path: Path) -> None:
    if FAMILIES[name][1] is None:
        pytest.skip("sd-mecha has no SD 2")
    sd_mecha = pytest.importorskip("sd_mecha")
    found: dict[str, torch.Tensor] = {}
    some = tuple(SDXL_ROWS) if name == "sdxl" else None
    part = replace(delta, origin=replace(delta.origin, layers=some))
    made = export.adapter(model, part, "lora", torch.float32, part)
    write_tensors(tmp_path / "x.safetensors", made.tensors, {})
    recipe = sd_mecha.convert(sd_mecha.model(tmp_path / "x.safetensors"), FAMILIES[name][1])
    options = {"output_dtype": torch.float32, "merge_dtype": torch.float32, "strict_mandatory_keys": False}
    sd_mecha.merge(recipe, output=found, strict_merge_space="delta", **options)
    found.pop("__metadata__", None)
    every = {m: pair for m, pair in changes(model, delta).items() if m.kind in part.origin.matrices}
    wanted_by = {m: pair for m, pair in every.items() if some is None or m.layer in some}
    assert len(found) == len(wanted_by), "it has read every matrix and nothing else"
    for matrix, (_, wanted) in wanted_by.items():
        change = found[f"unet.{matrix.names[model.family.kohya]}"].double()
        assert (change - wanted).norm() / wanted.norm() < 1e-5, matrix
