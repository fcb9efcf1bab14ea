"""Without a judge pictures are drawn and nothing is measured; what is no judge is answered with how to get one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from timecli.models.judges import ADVICE

from .conftest import PICTUREBOOK, Run

MANIFEST = """
name = "x"
[[edit]]
source = "A rose"
destination = "A blue rose"
[preserve]
everyday = "few.txt"
[verify]
efficacy = 0.5
"""
SMALL = ("--seeds", 1, "--steps", 1)


def manifest(folder: Path) -> Path:
    (folder / "few.txt").write_text("A barn\n")
    (folder / "x.toml").write_text(MANIFEST)
    return folder / "x.toml"


def test_without_a_judge_verify_draws_says_so_and_exits_with_0(run: Run, tmp_path: Path) -> None:
    shutil.copyfile(PICTUREBOOK / "picturebook.safetensors", tmp_path / "alone.safetensors")
    config = ("--config", PICTUREBOOK / "config")
    done = run(
        "verify", manifest(tmp_path), tmp_path / "alone.safetensors", *config, "-o", tmp_path / "r", *SMALL, "--json"
    )
    assert done.code == 0, done.err
    assert done.err.startswith("timecli: warning: no judge was given, so the thresholds (efficacy) are not measured")
    assert ADVICE in done.err and "hf download" in ADVICE and "GB" in ADVICE
    found = json.loads(done.out)
    assert (found["scores"], found["missed"], found["thresholds"]) == (None, [], {"efficacy": 0.5})
    assert (
        "Nothing was measured, and no threshold tested: no judge was given." in (tmp_path / "r/report.html").read_text()
    )
    assert "no threshold was tested" in (tmp_path / "r" / "report.md").read_text()
    beside = run("verify", tmp_path / "x.toml", PICTUREBOOK / "picturebook.safetensors", "-o", tmp_path / "s", *SMALL)
    assert "no judge" not in beside.err, "the control"


def test_a_name_of_the_hub_as_judge_gets_the_advice_of_a_models(run: Run, picturebook: Path, tmp_path: Path) -> None:
    for judge, advice in (
        ("openai/clip-vit-base-patch32", "run `hf download openai/clip-vit-base-patch32 --local-dir DIR`"),
        (tmp_path / "none", ADVICE),
    ):
        done = run("verify", manifest(tmp_path), picturebook, "-o", tmp_path / "r", *SMALL, "--judge", judge)
        assert done.code == 2 and f"{judge} does not exist" in done.err and advice in done.err


def test_a_judge_that_is_a_file_another_type_or_of_another_shape_is_named(
    run: Run, picturebook: Path, tmp_path: Path
) -> None:
    judge = tmp_path / "judge"
    shutil.copytree(PICTUREBOOK / "judge", judge)
    config = json.loads((judge / "config.json").read_text())
    wide = config | {"projection_dim": 2 * config["projection_dim"]}
    for given, changed, sentence in (
        (judge / "model.safetensors", config, f"is a file, and --judge takes the folder that it is in: {judge}."),
        (
            judge,
            config | {"model_type": "siglip"},
            "is a model of the type 'siglip', and --judge takes the type 'clip'",
        ),
        (judge, wide, "text_projection.weight has the shape [128, 192], and by config.json [256, 192]; use the config"),
    ):
        (judge / "config.json").write_text(json.dumps(changed))
        done = run("verify", manifest(tmp_path), picturebook, "-o", tmp_path / "r", *SMALL, "--judge", given)
        assert done.code == 2 and sentence in done.err, done.err


def test_a_judge_of_a_pickle_alone_is_named_and_the_command_converts_it(
    run: Run, picturebook: Path, tmp_path: Path
) -> None:
    judge = tmp_path / "a judge's"
    shutil.copytree(PICTUREBOOK / "judge", judge)
    torch.save(load_file(judge / "model.safetensors"), judge / "pytorch_model.bin")
    (judge / "model.safetensors").unlink()
    command = ("verify", manifest(tmp_path), picturebook, "-o", tmp_path / "r", *SMALL, "--judge", judge)
    done = run(*command)
    assert done.code == 2 and "has its weights in pytorch_model.bin alone, a pickle" in done.err
    (convert,) = re.findall(r"`(python -c .*?)`", done.err)
    made = subprocess.run(convert.replace("python", sys.executable, 1), shell=True, capture_output=True, text=True)
    assert (judge / "model.safetensors").exists(), made.stderr
    assert run(*command).code == 0


def test_the_command_that_converts_a_pickle_is_complete(run: Run, picturebook: Path, tmp_path: Path) -> None:
    tensors = load_file(picturebook)
    torch.save({"state_dict": tensors, "global_step": 3}, tmp_path / "my model.ckpt")
    done = run("inspect", tmp_path / "my model.ckpt")
    assert done.code == 2
    (convert,) = re.findall(r"`(python -c .*?)`", done.err)
    subprocess.run(convert.replace("python", sys.executable, 1), shell=True, check=True)
    made = load_file(tmp_path / "my model.safetensors")
    assert made.keys() == tensors.keys() and all(torch.equal(made[name], tensors[name]) for name in made)
    assert run("inspect", tmp_path / "my model.safetensors").code == 0
