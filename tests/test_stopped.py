"""Stopped at every step and at random moments: the old or the new model is there, or the next run puts it there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT

KILLS = int(os.environ.get("KILLS", "20"))
"""Random moments for each signal, shared by ten forms of output."""
FRESH = ("file_fresh", "folder_fresh")
SWAPPED = ("folder_beside", "folder_behind_a_link", "folder_in_place", "links_in_a_folder_in_place")
Seen = Callable[..., dict[str, dict[str, int]]]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def laboratory() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.stopped"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture
def told(laboratory: subprocess.Popen[str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def ask(how: str, count: int = 0) -> dict[str, Any]:
        assert laboratory.stdin and laboratory.stdout
        print(json.dumps([how, str(tmp_path), count]), file=laboratory.stdin, flush=True)
        found: dict[str, Any] = json.loads(laboratory.stdout.readline())
        return found

    return ask


@pytest.fixture
def seen(told: Callable[..., dict[str, Any]]) -> Seen:
    """What was seen of every form of output, and how often; it fails where the laboratory does."""

    def ask(how: str, count: int = 0) -> dict[str, dict[str, int]]:
        found = told(how, count)
        assert "seen" in found, found["failed"]
        seen: dict[str, dict[str, int]] = found["seen"]
        return seen

    return ask


def test_killed_before_every_step_the_old_or_the_new_model_is_there_or_settled_by_the_next_run(seen: Seen) -> None:
    found = seen("killed")
    assert all({"old", "new"} <= ends.keys() for ends in found.values()), "both ends must have been seen"
    for name in SWAPPED:
        assert {"old settled", "new settled"} <= found[name].keys(), "and both halves of a swap"


@pytest.mark.parametrize("how", ["interrupted", "refused", "refused twice", "refused ever since"])
def test_interrupted_twice_or_refused_at_every_step_what_is_said_is_true(how: str, seen: Seen) -> None:
    """Two SIGINTs leave no litter; an error that the system reports is undone, or the sentence says what is there."""
    found = seen(how)
    assert all({"old", "new"} <= ends.keys() for ends in found.values())
    unsettled = "old settled" in found["folder_in_place"]
    assert unsettled == (how in ("refused twice", "refused ever since")), "one failure leaves no work to the next run"


@pytest.mark.parametrize("how", ["kills", "interrupts"])
def test_stopped_at_random_moments(how: str, seen: Seen) -> None:
    found = seen(how, KILLS)
    assert sum(sum(ends.values()) for ends in found.values()) == KILLS


def test_the_laboratory_notices_files_that_are_replaced_one_by_one(told: Callable[..., dict[str, Any]]) -> None:
    """The control: killed between two shards, old and new stand side by side."""
    assert "assert not mixed" in told("careless")["failed"]
