"""A model is drawn as its kind is made for, where its tensors, its configs or its name tell it, and a line says so."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.drawing import kinds, networks, render
from timecli.models import layouts
from timecli.models.checkpoint import Checkpoint, open_checkpoint
from timecli.models.streams import Family
from timecli.text import encoding

from . import small
from .conftest import FEW, Run

CPU = torch.device("cpu")
PAIR = '[[edit]]\nsource = "a rose"\ndestination = "a blue rose"\n'


def opened(path: Path) -> Checkpoint:
    return open_checkpoint(path, needs="nothing")


def told(path: Path) -> tuple[int, float, str]:
    kind = kinds.kind_of(opened(path))
    return kind.steps, kind.guidance, kind.why


def renamed(model: Path, folder: Path, name: str, title: str = "") -> Path:
    """A single file under another name, or with a title."""
    path = folder / f"{name}.safetensors"
    save_file(load_file(model), path, {"format": "pt", **({"modelspec.title": title} if title else {})})
    return path


@pytest.mark.parametrize(
    ("name", "title", "steps", "guidance"),
    [
        ("sdxl_lightning_8step", "", 8, 0.0),
        ("juggernautXL_rdphoto2Lightning", "", 4, 0.0),
        ("sd_turbo", "", 4, 0.0),
        ("Hyper-SD15-1step", "", 1, 0.0),
        ("dreamshaper_8_LCM", "", 4, 1.0),
        ("x", "Some model, DMD2, 4 steps", 4, 0.0),
        ("myHyperXL_8step", "", 8, 0.0),
        ("photo-flash", "", 8, 0.0),
        ("hyperrealism", "", 25, 7.5),
        ("flashlight", "", 25, 7.5),
        ("de-turbo", "", 25, 7.5),
        ("photo", "Some model", 25, 7.5),
    ],
)
def test_a_name_or_a_title_tells_a_distilled_model(
    name: str, title: str, steps: int, guidance: float, picturebook: Path, tmp_path: Path
) -> None:
    path = renamed(picturebook, tmp_path, name, title)
    kind = kinds.kind_of(opened(path))
    assert (kind.steps, kind.guidance) == (steps, guidance)
    assert bool(kind.why) == kind.trailing == (steps != 25)


@pytest.mark.parametrize("family", [f for f in layouts.TRANSFORMERS if f.name in kinds.WHOLE] + [layouts.KLEIN])
def test_a_transformer_that_is_not_distilled_is_drawn_as_its_own_pipeline_draws_it(family: Family) -> None:
    """The control: Stable Diffusion has what most of its users take."""
    known = inspect.signature(getattr(diffusers, family.pipeline).__call__).parameters
    guidance = known["true_cfg_scale" if "true_cfg_scale" in known else "guidance_scale"].default
    assert kinds.WHOLE[family.name] == (known["num_inference_steps"].default, guidance) != (25, 7.5)
    assert layouts.SD1.name not in kinds.WHOLE


def test_the_line_says_whose_steps_they_are(tmp_path: Path) -> None:
    steps, guidance, why = told(small.saved("qwen-image", tmp_path / "model"))
    assert (steps, guidance) == (50, 4.0) and why == "it is Qwen-Image, and these are diffusers' own"


def flux(folder: Path, guided: bool) -> Path:
    """FLUX.1 with a guidance embedding, as dev has one, or without, as schnell."""
    pipeline = small.flux()
    torch.manual_seed(0)
    network = diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=12, axes_dims_rope=(2, 2, 4), guidance_embeds=guided,
    )  # fmt: skip
    pipeline.register_modules(transformer=small.sized(network))
    pipeline.save_pretrained(folder)
    return folder


def test_a_single_file_of_z_image_turbo_is_told_by_its_name(tmp_path: Path) -> None:
    state = small.single("z-image", small.saved("z-image", tmp_path / "model"))
    for name, wanted in (("z_image_turbo_bf16", (9, 0.0)), ("z_image_bf16", (50, 5.0))):
        save_file(state, tmp_path / f"{name}.safetensors")
        assert told(tmp_path / f"{name}.safetensors")[:2] == wanted


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_network_with_a_guidance_embedding_is_told_from_one_without(tmp_path: Path) -> None:
    dev, schnell = flux(tmp_path / "dev", True), flux(tmp_path / "other", False)
    assert told(dev)[:2] == (28, 3.5) and "guidance embedding" in told(dev)[2]
    assert told(schnell)[:2] == (4, 0.0) and "schnell" in told(schnell)[2]
    state = small.single("flux", schnell)
    save_file(state, tmp_path / "x.safetensors")
    save_file({**state, "guidance_in.in_layer.weight": torch.ones(4, 4)}, tmp_path / "y.safetensors")
    save_file({**state, "guidance_in.in_layer.weight": torch.ones(4, 4)}, tmp_path / "flux-hyper-8steps.safetensors")
    save_file(state, tmp_path / "flux-dev-de-distill.safetensors")
    assert told(tmp_path / "flux-dev-de-distill.safetensors")[:2] == (28, 3.5), "no embedding, and no schnell"
    assert told(tmp_path / "x.safetensors")[:2] == (4, 0.0)
    assert told(tmp_path / "y.safetensors")[:2] == (28, 3.5)
    assert told(tmp_path / "flux-hyper-8steps.safetensors")[:2] == (8, 3.5)


@pytest.mark.parametrize(
    ("family", "file", "values", "expected"),
    [
        ("z-image", "scheduler/scheduler_config.json", {"shift": 3.0}, (9, 0.0)),
        ("z-image", "scheduler/scheduler_config.json", {"shift": 6.0}, (50, 5.0)),
        ("sd3", "scheduler/scheduler_config.json", {"shift": 3.0}, (28, 7.0)),
        ("qwen-image", "scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"}, (4, 1.0)),
        ("z-image", "model_index.json", {"is_distilled": True}, (4, 1.0)),
    ],
)
def test_a_folder_s_configs_tell(
    family: str, file: str, values: dict[str, Any], expected: tuple[int, float], tmp_path: Path
) -> None:
    folder = small.saved(family, tmp_path / "model")
    changed(folder / file, **values)
    assert told(folder)[:2] == expected


@pytest.mark.parametrize("guided", [True, False])
def test_the_scale_goes_where_the_network_takes_it(guided: bool, tmp_path: Path) -> None:
    """Into the embedding, as diffusers' own default does; else beside an empty prompt."""
    checkpoint = open_checkpoint(flux(tmp_path / "model", guided))
    pipeline = render.load_pipeline(checkpoint, encoding.read_text_encoder(checkpoint, None, CPU), CPU)
    asked = networks.asked(pipeline, [0], 3.0)
    wanted = {"guidance_scale": 3.0} if guided else {"true_cfg_scale": 3.0, "negative_prompt": [""]}
    assert {key: asked[key] for key in asked if key not in ("height", "width", "max_sequence_length")} == wanted


def test_a_report_says_what_it_was_drawn_with_and_why_and_options_win(run: Run, tmp_path: Path) -> None:
    folder, manifest = flux(tmp_path / "model", True), tmp_path / "m.toml"
    (tmp_path / "few.txt").write_text(FEW)
    manifest.write_text(f'name = "m"\n[preserve]\neveryday = "few.txt"\n{PAIR}')
    command = ("verify", manifest, folder, "--seeds", 1, "--steps", 1, "--no-cache", "-o")
    done = run(*command, tmp_path / "one")
    line = "drawn with guidance 3.5: its network has a guidance embedding"
    assert done.code == 0 and line in done.err, done.err
    found = json.loads((tmp_path / "one" / "report.json").read_text())
    assert (found["guidance"], found["steps"], found["because"]) == (3.5, 1, [line])
    assert line in (tmp_path / "one" / "report.md").read_text()
    done = run(*command, tmp_path / "two", "--guidance", 2)
    assert done.code == 0 and "drawn with" not in done.err
    assert json.loads((tmp_path / "two" / "report.json").read_text())["guidance"] == 2


def test_a_distilled_file_is_drawn_by_trailing_steps(picturebook: Path, tmp_path: Path) -> None:
    shutil.copytree(picturebook.parent / "config", tmp_path / "config")
    for name, spacing in (("lightning", "trailing"), ("photo", None)):
        checkpoint = open_checkpoint(renamed(picturebook, tmp_path, name))
        pipeline = render.load_pipeline(checkpoint, encoding.read_text_encoder(checkpoint, None, CPU), CPU)
        found = pipeline.scheduler.config["timestep_spacing"]
        assert found == spacing if spacing else found != "trailing"
