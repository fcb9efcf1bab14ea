"""What installing the nodes does to the environment that ComfyUI is in: nothing of its own changes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

import timecli

from .conftest import ROOT
from .test_comfyui import NODE, require_comfyui

CORE = ROOT / "integrations" / "core"


def names(lines: list[str]) -> set[str]:
    return {re.split(r"[<>=!~ ]", line)[0].lower() for line in lines if line.strip() and not line.startswith("#")}


def test_installing_the_nodes_changes_nothing_that_comfyui_has() -> None:
    core = tomli.loads((CORE / "pyproject.toml").read_text())["project"]["dependencies"]
    pack = tomli.loads((NODE / "pyproject.toml").read_text())["project"]
    asked = (NODE / "requirements.txt").read_text().splitlines()
    assert asked == pack["dependencies"] == ["timecli-core>=0.1,<0.2"] and pack["version"] == timecli.__version__
    assert names(core) == set(core), "no bound"
    whole = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert names(core) <= names(whole) and {"typer", "diffusers"} <= names(whole) - names(core), "the control"
    if importlib.util.find_spec("comfy_execution") is not None:
        has = comfyui().read_text().splitlines()
        assert names(core) - names(has) == {"platformdirs", "tomli"}, "pure, and without needs"


def comfyui() -> Path:
    """The requirements of ComfyUI."""
    require_comfyui()
    spec = importlib.util.find_spec("comfy_execution")
    assert spec and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))).parent / "requirements.txt"


def installs(place: Path, *asked: str | Path) -> dict[str, str]:
    """What pip would put beside ComfyUI's requirements into this environment, by its resolver: names and versions."""
    report = place / "report.json"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--quiet",
        "--report",
        report,
        "--find-links",
        place,
    ]
    done = subprocess.run([*command, "-r", comfyui(), *asked], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr)
    found = [one["metadata"] for one in json.loads(report.read_text())["install"]]
    return {one["name"].lower(): one["version"] for one in found}


def test_a_resolver_adds_the_package_alone(tmp_path: Path) -> None:
    """With ComfyUI's own requirements beside it, of the index that pip has."""
    try:
        before = installs(tmp_path)
    except OSError as error:
        pytest.skip(f"no package index: {error}")
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, CORE]
    subprocess.run(wheel, check=True, capture_output=True)
    after = installs(tmp_path, "-r", NODE / "requirements.txt")
    assert {name: after.get(name) for name in before} == before, "what ComfyUI needs keeps its versions"
    more = after.keys() - before.keys()
    has = {one.name.lower() for one in importlib.metadata.distributions()}
    assert "timecli-core" in more | has and more <= {"timecli-core", "platformdirs", "tomli"}
    other = installs(tmp_path, "-r", NODE / "requirements.txt", "numpy<2")
    assert other.keys() - after.keys() == {"numpy"}, "the control: a bound changes what is installed"
