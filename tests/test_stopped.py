"""Stopped at every step and at random moments: the old or the new model is there, or the next run puts it there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

KILLS = int(os.environ.get("KILLS", "20"))
"""Random moments for each signal, shared by ten forms of output."""
FRESH = ("file_fresh", "folder_fresh")
SWAPPED = ("folder_beside", "folder_behind_a_link", "folder_in_place", "links_in_a_folder_in_place")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def laboratory(how: str, folder: Path, count: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.stopped", how, str(folder), str(count)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def seen(how: str, folder: Path, count: int = 0) -> dict[str, dict[str, int]]:
    done = laboratory(how, folder, count)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    return found


def test_killed_before_every_step_the_old_or_the_new_model_is_there_or_settled_by_the_next_run(tmp_path: Path) -> None:
    found = seen("killed", tmp_path)
    assert all({"old", "new"} <= ends.keys() for ends in found.values()), "both ends must have been seen"
    for name in SWAPPED:
        assert {"old settled", "new settled"} <= found[name].keys(), "and both halves of a swap"


@pytest.mark.parametrize("how", ["interrupted", "refused", "refused ever since"])
def test_interrupted_twice_or_refused_at_every_step_what_is_said_is_true(how: str, tmp_path: Path) -> None:
    """Two SIGINTs leave no litter; an error that the system reports is undone, or the sentence says what is there."""
    found = seen(how, tmp_path)
    assert all({"old", "new"} <= ends.keys() for ends in found.values())
    unsettled = "old settled" in found["folder_in_place"]
    assert unsettled == (how == "refused ever since"), "only a disk that fails for good leaves work to the next run"


@pytest.mark.parametrize("how", ["kills", "interrupts"])
def test_stopped_at_random_moments(how: str, tmp_path: Path) -> None:
    found = seen(how, tmp_path, KILLS)
    assert sum(sum(ends.values()) for ends in found.values()) == KILLS


def test_the_laboratory_notices_files_that_are_replaced_one_by_one(tmp_path: Path) -> None:
    """The control: killed between two shards, old and new stand side by side."""
    done = laboratory("careless", tmp_path)
    assert done.returncode != 0 and "assert not mixed" in done.stderr
