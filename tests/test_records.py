"""Metadata of a delta and of an edited model: every value of another type is refused, before anything is written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from timecli.editing.delta import KEY, load_delta
from timecli.errors import CheckpointError, DeltaError
from timecli.models.checkpoint import EDITS, open_checkpoint

from .conftest import Run

MANIFEST = 'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 10**400, -1.5, math.nan, math.inf, "", "x", "\x1b", "\ud800"),
    *([], {}, [[]], [1], ["k"], ["k", "k"], ["q"], [None], {"a": 1}, [[1, 2]], [[[1], [2], [3]]], [[["a"], ["b"]]]),
]
RIGHT: dict[str, list[Any]] = {
    # key -> those of VALUES that it may be
    "condition": [0, 1],
    "name": ["x", "\x1b"],
    "manifest": ["", "x", "\x1b"],
    "version": ["", "x", "\x1b"],
    "encoder": ["", "x", "\x1b"],
    "lambdas": [[], [1]],
    "matrices": [["k"]],
    "layers": [None, [1]],
    "tokens": [[]],
    "clip_skip": [1],
    "length": [None, 1],
    "states_of": ["", "x", "\x1b"],
    "strengths": [[], [1]],
    "everyday": ["", "x", "\x1b"],
    "everyday_weight": [0, 1],
    "behind_norm": [True],
    "factors": [[], [1]],
    "pooled_factors": [[], [1]],
}
OPTIONAL = {
    "clip_skip",
    "length",
    "states_of",
    "strengths",
    "everyday",
    "everyday_weight",
    "behind_norm",
    "factors",
    "pooled_factors",
}


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        found: dict[str, str] = file.metadata()
    return found


@pytest.fixture
def delta(run: Run, small: Path, tmp_path: Path) -> Path:
    (tmp_path / "x.toml").write_text(MANIFEST)
    done = run("edit", tmp_path / "x.toml", small, "-o", tmp_path / "e.safetensors", "--delta", tmp_path / "x.delta")
    assert done.code == 0, done.err
    return tmp_path / "x.delta"


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and repr(one) == repr(other)


def test_every_key_of_a_delta_is_of_its_type(delta: Path, tmp_path: Path) -> None:
    about, factors = json.loads(metadata(delta)[KEY]), load_file(delta)
    assert about.keys() == {"format", *RIGHT}, "a key that is not tried here"
    for key, right in RIGHT.items():
        for value in VALUES:
            save_file(factors, tmp_path / "d", {KEY: json.dumps({**about, key: value})})
            if any(same(value, one) for one in right):
                load_delta(tmp_path / "d")
                continue
            with pytest.raises(DeltaError, match="damaged delta file") as refusal:
                load_delta(tmp_path / "d")
            assert "\n" not in str(refusal.value) and ".)" not in str(refusal.value) and len(str(refusal.value)) < 1000
    for key in RIGHT:
        if key not in OPTIONAL:
            save_file(factors, tmp_path / "d", {KEY: json.dumps({k: v for k, v in about.items() if k != key})})
            with pytest.raises(DeltaError, match=f"{key} is missing"):
                load_delta(tmp_path / "d")
    for text in ("[" * 5000, "9" * 5000, "[]", "null", '{"format": 1}', json.dumps({**about, "more": 1})):
        save_file(factors, tmp_path / "d", {KEY: text})
        with pytest.raises(DeltaError):
            load_delta(tmp_path / "d")


def test_factors_that_are_none(delta: Path, tmp_path: Path) -> None:
    about = {KEY: metadata(delta)[KEY]}
    left, right = (load_file(delta)[name] for name in ("left", "right"))
    for wrong in (
        {"left": left[:, 0], "right": right},
        {"left": left[:, 0], "right": right[0]},
        {"left": left[:, :0], "right": right[:0]},
        {"left": left[:0], "right": right[:, :0]},
        {"left": left.int(), "right": right.int()},
        {"left": left.half(), "right": right},
        {"left": left.to(torch.float8_e4m3fn), "right": right.to(torch.float8_e4m3fn)},
        {"left": left[None], "right": right[None]},
        {"left": torch.tensor(1.0), "right": torch.tensor(1.0)},
        {"left": right, "right": right},
        {"left": left},
    ):
        save_file({name: part.clone().contiguous() for name, part in wrong.items()}, tmp_path / "d", about)
        with pytest.raises(DeltaError, match=r"do not fit, they must be F32 \[d, r\] and \[r, d\]"):
            load_delta(tmp_path / "d")
    save_file({"left": left, "right": right}, tmp_path / "d", about)
    assert load_delta(tmp_path / "d").operator.rank == left.shape[1], "the control"


def test_commands_refuse_a_damaged_delta_before_they_write(run: Run, delta: Path, small: Path, tmp_path: Path) -> None:
    about = json.loads(metadata(delta)[KEY])
    save_file(load_file(delta), tmp_path / "d", {KEY: json.dumps({**about, "lambdas": ["x"], "tokens": 5})})
    out = tmp_path / "out.safetensors"
    for arguments in (
        ("apply", tmp_path / "d", small, "-o", out),
        ("export", tmp_path / "d", small, "-o", out),
        ("inspect", tmp_path / "d"),
    ):
        done = run(*arguments)
        assert done.code == 2 and "is a damaged delta file (lambdas[0] is 'x'" in done.err, done.err
        assert done.err.count("\n") == 1 and not out.exists()
    assert run("apply", delta, small, "-o", out).code == 0, "the control"


def test_every_key_of_a_record_is_of_its_type(run: Run, delta: Path, tmp_path: Path) -> None:
    model = tmp_path / "e.safetensors"
    tensors, about = load_file(model), metadata(model)
    (record,) = json.loads(about[EDITS])
    right = {
        **RIGHT,
        "strength": [-1, 0, 1, -1.5],
        "base": RIGHT["encoder"],
        "averages": [True],
        "norm": [-1, 0, 1, -1.5],
        "made": RIGHT["encoder"],
        "streams": [["k"], ["k", "k"], ["q"]],
        "sketch": [[1]],
    }
    assert record.keys() - right.keys() == set(), "a key that is not tried here"
    for key in record:
        for value in VALUES:
            save_file(tensors, model, {**about, EDITS: json.dumps([{**record, key: value}])})
            if any(same(value, one) for one in right[key]):
                assert open_checkpoint(model).edits
                continue
            with pytest.raises(CheckpointError, match="has a damaged record of its edits") as refusal:
                _ = open_checkpoint(model).edits
            assert ".)" not in str(refusal.value) and ".;" not in str(refusal.value)
    save_file(tensors, model, {**about, EDITS: json.dumps([{**record, "later": {"a": [1]}}])})
    assert open_checkpoint(model).edits[0]["later"] == {"a": [1]}, "what a later timecli adds stays"
    for text in ("[" * 5000, "9" * 5000, "{}", "null", "[1]", '[{"a": 1}]', '[{"name": "\\ud800"}]', "[{]"):
        save_file(tensors, model, {**about, EDITS: text})
        done = run("edit", tmp_path / "x.toml", model, "-o", tmp_path / "out.safetensors", "--stack")
        assert done.code == 2 and "damaged record" in done.err and done.err.count("\n") == 1, done.err
        assert run("inspect", model).code == 2 and not (tmp_path / "out.safetensors").exists()


def test_metadata_of_others_may_be_anything(run: Run, small: Path, delta: Path, tmp_path: Path) -> None:
    for text in ("[" * 5000, "9" * 5000, "NaN", "[1]", '{"a": 1e999}', '{"\\ud800": 1}', "5", "\x1b"):
        foreign = dict.fromkeys(("sd_merge_models", "sd_merge_recipe", "modelspec.title", "modelspec.resolution"), text)
        save_file(load_file(small), tmp_path / "m.safetensors", foreign)
        out = tmp_path / "out.safetensors"
        done = run("apply", delta, tmp_path / "m.safetensors", "-o", out, "--hash", "--force")
        assert done.code == 0, done.err
        parents = json.loads(metadata(out)["sd_merge_models"])
        assert [parent["name"] for parent in parents.values()] == [text]
