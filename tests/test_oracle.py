"""Every family and every form against `oracle`, which takes text, positions and formula from diffusers alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.models import layouts, streams

from . import oracle, small
from .conftest import EXACT, ROOT, Run
from .test_families import plain, prefixed, sd1_pipeline, sd2_pipeline, sdxl_pipeline, single_file, to_openclip

UNETS: dict[str, tuple[Callable[[], Any], streams.Family]] = {
    "sd1": (sd1_pipeline, layouts.SD1), "sd2": (sd2_pipeline, layouts.SD2), "sdxl": (sdxl_pipeline, layouts.SDXL),
}  # fmt: skip
ROWS = {row.name: name for name, (_, row) in UNETS.items()} | {
    "Stable Diffusion 3": "sd3", "FLUX.1": "flux", "Chroma": "chroma", "FLUX.2 dev": "flux2", "FLUX.2 klein": "klein",
    "Qwen-Image": "qwen-image", "Z-Image": "z-image",
}  # fmt: skip
"""The families of the documentation's table."""
PAIR = ("A pack of roses in the snow", "A pack of tall blue roses in the snow")
MANIFEST = f"""name = "blue"
[solve]
augment = false
lambda = {oracle.LAMBDA}
[preserve]
everyday = false
[[edit]]
source = "{PAIR[0]}"
destination = "{PAIR[1]}"
"""
FORMS = ("folder", "single file", "LoRA, exact", "LoRA")


def stated() -> dict[str, dict[str, float]]:
    """What the documentation says of every family and form."""
    page = (ROOT / "docs" / "models.md").read_text()
    lines = re.findall(r"^\| (.+?) \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|$", page, re.MULTILINE)
    return {name: dict(zip(FORMS, map(float, rest), strict=True)) for name, *rest in lines if name in ROWS}


def of_unet(pipeline: Any, family: streams.Family) -> dict[str, torch.Tensor]:
    """A whole single file of SD 1, SD 2 or SDXL."""
    texts = {}
    for tower, model in zip(
        family.towers, (pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)), strict=False
    ):
        weights = plain(model)
        texts |= prefixed(tower.prefixes[0], to_openclip(weights, False) if tower.openclip else weights)
    return single_file(pipeline.unet, family, texts)


def measured(name: str, folder: Path, run: Run, tmp_path: Path) -> dict[str, float]:
    """How far every form is from the oracle, of the map where it is farthest: ‖W' − W (I + D)‖ / ‖W D‖."""
    (tmp_path / "m.toml").write_text(MANIFEST)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    operators = oracle.operators(pipeline, name, *PAIR)
    network = "unet" if name in UNETS else "transformer"
    before = load_file(folder / network / "diffusion_pytorch_model.safetensors")
    if name in UNETS:
        family = UNETS[name][1]
        alone, prefix = of_unet(pipeline, family), "model.diffusion_model."
        options: tuple[object, ...] = ()
    else:
        family = layouts.find({key: tuple(one.shape) for key, one in before.items()}, name)[0]
        alone, prefix, options = small.single(name, folder), "", ("--config", folder)
    file = tmp_path / "model.safetensors"
    save_file(alone, file, {"format": "pt"})

    def off(after: dict[str, torch.Tensor], spelling: int, prefix: str) -> float:
        found = []
        for matrix in family.matrices:
            weight = before[matrix.names[streams.DIFFUSERS]].double()
            wanted = oracle.edited(weight, operators[matrix.stream])
            made = after[prefix + matrix.names[spelling]].double()
            found.append(float((made - wanted).norm() / (wanted - weight).norm()))
        return max(found)

    for model, out, more in ((folder, "out", ()), (file, "out.safetensors", options)):
        done = run(
            "edit", tmp_path / "m.toml", model, *more, "-o", tmp_path / out, "--delta", tmp_path / "d", "--force"
        )
        assert done.code == 0, done.err
    fused = {}
    for form, more in (("LoRA", ()), ("LoRA, exact", EXACT)):
        done = run("export", tmp_path / "d", file, *options, "-o", tmp_path / "lora.safetensors", *more, "--force")
        assert done.code == 0, done.err
        pipeline.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
        fused[form] = off(getattr(pipeline, network).state_dict(), streams.DIFFUSERS, "")
        getattr(pipeline, network).load_state_dict(before)
    edited = load_file(tmp_path / "out" / network / "diffusion_pytorch_model.safetensors")
    return {
        "folder": off(edited, streams.DIFFUSERS, ""),
        "single file": off(load_file(tmp_path / "out.safetensors"), streams.LDM, prefix),
        **fused,
    }


@pytest.mark.parametrize("row", ROWS)
def test_every_form_is_what_diffusers_text_says(row: str, run: Run, tmp_path: Path) -> None:
    name, folder = ROWS[row], tmp_path / "model"
    if name in UNETS:
        UNETS[name][0]().save_pretrained(folder)
    else:
        small.saved(name, folder)
    found, most = measured(name, folder, run, tmp_path), stated()[row]
    print(row, {form: f"{value:.1e}" for form, value in found.items()})
    for form in FORMS:
        assert found[form] <= most[form], f"{row} as {form}: {found[form]:.2e}"


def test_every_family_of_the_models_page_is_measured() -> None:
    assert set(stated()) == set(ROWS)
    for row in (*(row for _, row in UNETS.values()), *layouts.TRANSFORMERS, layouts.KLEIN):
        assert row.name in ROWS, "a family of the table of names"
    assert max(max(forms.values()) for forms in stated().values()) <= 0.02
