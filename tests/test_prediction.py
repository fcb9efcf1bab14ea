"""What a single file says of its prediction is how it is drawn, whatever a config that many files share says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from timecli.drawing import parts, prediction, render
from timecli.errors import CheckpointError
from timecli.models import layouts
from timecli.models.checkpoint import Checkpoint, open_checkpoint
from timecli.text import encoding

from .conftest import FEW, Run

CPU = torch.device("cpu")
V_YAML = 'model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    parameterization: "v"\n'
SGM_YAML = (
    "model:\n  params:\n    scaling_config:\n      target: sgm.modules.diffusionmodules.denoiser_scaling.VScaling\n"
)
PAIR = '[[edit]]\nsource = "a rose"\ndestination = "a blue rose"\n'
EMPTY = torch.zeros(0)


def saying(model: Path, folder: Path, *keys: str, yaml: str = "", said: str = "") -> Path:
    """A copy of a single file that says something of its prediction."""
    path = folder / "model.safetensors"
    about = {"modelspec.prediction_type": said} if said else {}
    save_file(load_file(model) | dict.fromkeys(keys, EMPTY), path, {"format": "pt", **about})
    if yaml:
        path.with_suffix(".yaml").write_text(yaml)
    shutil.copytree(model.parent / "config", folder / "config", dirs_exist_ok=True)
    return path


def drawn(path: Path) -> np.ndarray:
    checkpoint = open_checkpoint(path)
    pipeline = render.load_pipeline(checkpoint, encoding.read_text_encoder(checkpoint, None, CPU), CPU)
    how = render.Settings((0,), 3, 3.0)
    return np.asarray(render.render(pipeline, ["A barn"], how, lambda _: None)["A barn"][0], dtype=float)


def by_diffusers(folder: Path, **scheduler: object) -> np.ndarray:
    """The picture that diffusers draws of a folder when it is told the prediction."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, safety_checker=None)
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **scheduler)
    pipeline.set_progress_bar_config(disable=True)
    side = pipeline.unet.config.sample_size
    noise = torch.randn((1, 4, side, side), generator=torch.Generator().manual_seed(0))
    result = pipeline("A barn", latents=noise, num_inference_steps=3, guidance_scale=3.0,
                      generator=[torch.Generator().manual_seed(0)])  # fmt: skip
    return np.asarray(result.images[0], dtype=float)


VELOCITY = {"prediction_type": "v_prediction"}
ZERO = {**VELOCITY, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


@pytest.mark.parametrize(
    ("keys", "yaml", "said", "wanted"),
    [
        (("v_pred", "ztsnr"), "", "", ZERO),
        (("v_pred",), "", "epsilon", VELOCITY),
        ((), V_YAML, "", VELOCITY),
        ((), SGM_YAML, "", VELOCITY),
        ((), "", "v", VELOCITY),
        (("ztsnr",), "", "V-pred", ZERO),
        ((), "model: {params: {'parameterization': v}}\n", "", VELOCITY),
    ],
    ids=["v_pred and ztsnr", "v_pred", "yaml", "yaml of SDXL", "metadata", "metadata and ztsnr", "yaml in one line"],
)
def test_what_a_file_says_is_what_diffusers_draws_when_it_is_told(
    keys: tuple[str, ...], yaml: str, said: str, wanted: dict[str, object], picturebook: Path,
    picturebook_folder: Path, tmp_path: Path,
) -> None:  # fmt: skip
    found = drawn(saying(picturebook, tmp_path, *keys, yaml=yaml, said=said))
    assert np.abs(found - by_diffusers(picturebook_folder, **wanted)).mean() < 1
    assert np.abs(found - by_diffusers(picturebook_folder)).mean() > 10, "the control: the config's own"


def test_a_file_that_says_nothing_is_drawn_as_its_config_says(
    picturebook: Path, picturebook_folder: Path, tmp_path: Path
) -> None:
    wanted = by_diffusers(picturebook_folder)
    for name, keys, yaml, said in (
        ("a", (), "", ""),
        ("b", (), "", "epsilon"),
        ("c", ("ztsnr",), "# parameterization: v\n", "EPS"),
    ):
        (tmp_path / name).mkdir()
        assert np.abs(drawn(saying(picturebook, tmp_path / name, *keys, yaml=yaml, said=said)) - wanted).mean() < 1


@pytest.mark.parametrize("change", [{}, VELOCITY, ZERO], ids=["epsilon", "v", "zero"])
def test_a_folder_s_scheduler_is_told(change: dict[str, object], picturebook_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(picturebook_folder, tmp_path / "model"))
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    told = render.settings(1, 5, 3.0, open_checkpoint(folder, needs="nothing")).because
    more = ", with zero terminal SNR and trailing steps" if change == ZERO else ""
    said = f"drawn by v-prediction{more}: scheduler_config.json of its scheduler says so"
    assert told == ((said,) if change else ())


def test_sdxl_and_a_scheduler_without_zero_snr_get_one_that_has_it() -> None:
    said = prediction.Prediction("v_prediction", True, "it")
    for family, before in ((layouts.SDXL, diffusers.EulerDiscreteScheduler), (layouts.SD1, diffusers.PNDMScheduler)):
        folder = Path(parts.__file__).parent.parent / "data" / parts.CONFIGS[family.name] / "scheduler"
        config = json.loads((folder / "scheduler_config.json").read_text())
        found = parts.scheduler(before.from_config(config), said)
        assert isinstance(found, diffusers.EulerDiscreteScheduler)
        assert {key: found.config[key] for key in ZERO} == ZERO and found.config.beta_end == config["beta_end"]
        found.set_timesteps(4)
        assert int(found.timesteps[0]) == 999 and found.sigmas[0] > 1000, "the first step is noise alone"


@pytest.mark.parametrize(
    ("keys", "yaml", "said", "sentence"),
    [
        (("edm_vpred.sigma_max",), "", "", "noise schedule of EDM"),
        (("edm_mean", "edm_std"), "", "", "noise schedule of EDM"),
        ((), "", "flow", "prediction_type is 'flow'"),
        ((), "    parameterization: x0\n", "", "parameterization is 'x0'"),
    ],
)
def test_a_prediction_that_is_not_drawn_here_is_named(
    keys: tuple[str, ...], yaml: str, said: str, sentence: str, picturebook: Path, tmp_path: Path
) -> None:
    checkpoint: Checkpoint = open_checkpoint(saying(picturebook, tmp_path, *keys, yaml=yaml, said=said))
    with pytest.raises(CheckpointError, match=sentence):
        prediction.stated(checkpoint)


def test_commands_say_how_they_draw_and_the_report_keeps_it(run: Run, picturebook: Path, tmp_path: Path) -> None:
    model = saying(picturebook, tmp_path, "v_pred", "ztsnr")
    (tmp_path / "few.txt").write_text(FEW)
    manifest = tmp_path / "m.toml"
    manifest.write_text(f'name = "m"\n[preserve]\neveryday = "few.txt"\n{PAIR}')
    done = run("verify", manifest, model, "-o", tmp_path / "r", "--seeds", 1, "--steps", 1, "--no-cache")
    line = "drawn by v-prediction, with zero terminal SNR and trailing steps: model.safetensors has v_pred and ztsnr"
    assert line in done.err, done.err
    assert json.loads((tmp_path / "r" / "report.json").read_text())["because"] == [line]
    for name in ("report.md", "report.html"):
        assert "drawn by v-prediction" in (tmp_path / "r" / name).read_text()
    copy = tmp_path / "edited" / "copy.safetensors"
    copy.parent.mkdir()
    save_file({name: tensor for name, tensor in load_file(model).items() if tensor.numel()}, copy, {"format": "pt"})
    shutil.copytree(model.parent / "config", copy.parent / "config")
    done = run("verify", manifest, model, copy, "-o", tmp_path / "s", "--seeds", 1, "--steps", 1, "--no-cache")
    assert f"{copy} does not say of its prediction what {model} says" in done.err


def test_bench_and_tune_say_it_too(run: Run, picturebook: Path, tmp_path: Path) -> None:
    model, manifest = saying(picturebook, tmp_path, "v_pred"), tmp_path / "m.toml"
    test = 'positives = [{ prompt = "a rose in the snow", destination = "a blue rose in the snow" }]\n'
    test += 'negatives = [{ prompt = "a tulip", destination = "a blue tulip" }]\n'
    manifest.write_text(f'name = "m"\n[preserve]\neveryday = false\n{PAIR}{test}')
    line, how = "drawn by v-prediction: model.safetensors has v_pred", ("--judge", picturebook.parent / "judge")
    done = run("bench", manifest, model, *how, "--seeds", 2, "--steps", 1, "-o", tmp_path / "b")
    assert done.code == 0 and line in done.err, done.err
    for name in ("table.md", "report.html"):
        assert "drawn by v-prediction: model.safetensors" in (tmp_path / "b" / name).read_text()
    done = run("tune", manifest, model, *how, "--seeds", 1, "--steps", 1)
    assert done.code == 0 and line in done.err, done.err
