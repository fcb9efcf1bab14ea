"""Every command of the recipes that downloads nothing runs, in the order of the page, with small models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

from . import small
from .conftest import PICTUREBOOK, Run
from .test_comfyui_folder import made
from .test_docs import DOCS, commands, read

PAGE = read(DOCS / "recipes.md")
QUICK = ["--seeds", "1", "--steps", "1"]


def section(title: str) -> list[list[str]]:
    """The program's calls under a heading."""
    return commands(PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0])


def test_stable_diffusion_from_the_first_command_to_the_last(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(PICTUREBOOK / "picturebook.safetensors", "v1-5-pruned-emaonly.safetensors")
    shutil.copytree(PICTUREBOOK / "config", "config")  # picturebook has sizes of its own; SD 1.5 needs none
    shutil.copytree(PICTUREBOOK / "judge", "clip")
    calls = [*section("Stable Diffusion 1.5"), section("Both genders equally often")[0], *section("Share it")]
    assert [command for _, command, *_ in calls] == [
        *("init", "plan", "edit", "verify", "export", "apply", "apply", "init", "verify")
    ]
    for _, command, *arguments in calls:
        done = run(command, *arguments, *(QUICK if command == "verify" else []))
        missed = command == "verify" and done.code == 1  # one step draws no rose
        assert done.code == 0 or missed, (command, done.err)
    for name in ("look/report.html", "blue-roses.safetensors", "original.safetensors", "ceo.toml", "README.md"):
        assert Path(name).exists(), name


def test_flux_from_its_parts_to_an_adapter(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small.saved("flux", tmp_path / "model")
    config = small.config_only(folder, tmp_path / "flux-config")
    (config / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text('{"weight_map": {}}')
    shutil.rmtree(config / "vae")  # what --include leaves out
    monkeypatch.chdir(tmp_path)
    save_file(small.single("flux", folder), "flux1-dev.safetensors")
    names = {"text_encoder": "clip_l.safetensors", "text_encoder_2": "t5xxl_fp16.safetensors"}
    for part, state in small.text_encoders(folder).items():
        save_file(state, names[part])
    run_all(run, section("FLUX.1")[:5])
    assert Path("blue-roses-flux.safetensors").exists()


def test_flux_beside_comfyui(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, home = made("flux", tmp_path)
    models = home / "models"
    (models / "diffusion_models" / "net.safetensors").rename(models / "unet" / "flux1-dev.safetensors")
    (models / "loras").mkdir()
    monkeypatch.chdir(tmp_path)
    run_all(run, [[word.replace("~", str(tmp_path)) for word in call] for call in section("FLUX.1")[5:]])
    assert (models / "loras" / "blue-roses.safetensors").exists()


def run_all(run: Run, calls: list[list[str]]) -> None:
    """From the everyday prompts to the adapter."""
    assert [command for _, command, *_ in calls] == ["everyday", "init", "plan", "edit", "export"]
    for _, command, *arguments in calls:
        done = run(command, *arguments)
        assert done.code == 0 or command == "plan" and done.code == 1, (
            command,
            done.err,
        )  # random weights promise nothing


def test_the_other_recipes_are_the_same_commands() -> None:
    one, other = (section(title) for title in ("Stable Diffusion 1.5", "Stable Diffusion XL"))
    assert [call[:2] for call in other] == [call[:2] for call in one[: len(other)]] and len(other) == 5
