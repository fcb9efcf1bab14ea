"""`import timecli` does what the command line does, refuses what it refuses, and loads nothing before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import timecli
from timecli.errors import CheckpointError, DeltaError, OutputError
from timecli.manifests.manifest import Manifest

from .conftest import PICTUREBOOK

TEXT = (
    'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
    'negatives = [{prompt = "A poppy", destination = "A blue poppy"}]\n[verify]\nsteps = 1\nspecificity = 0.5\n'
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "x.toml").write_text(TEXT)
    return timecli.load_manifest(tmp_path / "x.toml")


@pytest.fixture(scope="module")
def model(picturebook: Path) -> timecli.Model:
    return timecli.open_model(picturebook)


def test_from_a_manifest_to_a_report(manifest: Manifest, model: timecli.Model, tmp_path: Path) -> None:
    edit = timecli.compile(manifest, model)
    first, second = timecli.plan(manifest, model, edit).forecasts
    assert first.share is not None and second.share is not None and first.share > 0.5 > second.share
    changes = timecli.apply(edit, model, tmp_path / "edited.safetensors")
    assert len(changes) == 32 and all(change.relative > 0 for change in changes)
    found = timecli.verify(manifest, model, edit, PICTUREBOOK / "judge", tmp_path / "report", seeds=1)
    assert found["scores"]["edited"]["kept"]["mean"] <= 1.001 and (tmp_path / "report" / "report.html").exists()
    again = timecli.verify(manifest, model, edit, seeds=1)
    assert again["scores"] == found["scores"], "the judge beside the model"


def test_what_the_command_line_refuses_is_refused(
    manifest: Manifest, model: timecli.Model, small: Path, tmp_path: Path
) -> None:
    edit = timecli.compile(manifest, model)
    (tmp_path / "there").write_bytes(b"x")
    with pytest.raises(OutputError, match="already exists"):
        timecli.apply(edit, model, tmp_path / "there")
    with pytest.raises(DeltaError, match="takes text of width 64"):
        timecli.apply(edit, timecli.open_model(small), tmp_path / "a")
    timecli.apply(edit, model, tmp_path / "there", force=True)
    with pytest.raises(CheckpointError, match="already carries a timecli edit"):
        config = PICTUREBOOK / "config"
        timecli.apply(edit, timecli.open_model(tmp_path / "there", config), tmp_path / "b")


def test_nothing_prints_but_the_caller(picturebook: Path, tmp_path: Path) -> None:
    """In an environment that asks no library to be quiet. The control: afterwards they talk again."""
    (tmp_path / "x.toml").write_text(f"{TEXT}[preserve]\neveryday = false\n")  # fewer pictures
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_VERBOSITY")}
    lines = (
        f"import timecli; manifest = timecli.load_manifest({str(tmp_path / 'x.toml')!r})",
        f"model = timecli.open_model({str(picturebook)!r}); edit = timecli.compile(manifest, model)",
        "found = timecli.verify(manifest, model, edit, seeds=1)",
        "print(sorted(found['scores']['edited']))",
        "from transformers.utils import logging; from timecli.drawing.quiet import quiet",
        "talk = logging.get_logger('transformers.models').warning",
        "with quiet(): talk('inside')",
        "talk('outside')",
    )
    code = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(code, capture_output=True, text=True, check=True, env=environment)
    assert (
        done.stderr == "[transformers] outside\n"
        and done.stdout.startswith("['efficacy', ")
        and done.stdout.count("\n") == 1
    )


def test_it_loads_nothing_before_it_is_needed() -> None:
    script = "import sys, timecli; print(*{'torch', 'transformers', 'typer', 'rich'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
