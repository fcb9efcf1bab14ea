"""A delta is a value: what is read back is what was written, bit for bit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from timecli.editing.delta import KEY, Delta, Origin, describe, load_delta, save_delta
from timecli.editing.solve import Operator
from timecli.errors import CheckpointError, DeltaError, OutputError
from timecli.files.safefile import open_file

ORIGIN = Origin("x", 'name = "x"\n# ü', "0.1.0", "ab" * 32, (0.1, 1 / 3), ("k", "v"), (0, 3), (((1, 2), (1, 5, 2)),))


@pytest.fixture
def delta() -> Delta:
    random = torch.Generator().manual_seed(0)
    operator = Operator(torch.randn(8, 3, generator=random), torch.randn(3, 8, generator=random), 1 / 7)
    return Delta({"text": operator}, ORIGIN)


@pytest.mark.parametrize("layers", [None, (0, 3)])
def test_round_trip_is_exact(delta: Delta, layers: tuple[int, ...] | None, tmp_path: Path) -> None:
    delta = replace(delta, origin=replace(ORIGIN, layers=layers))
    save_delta(delta, tmp_path / "a.delta")
    found = load_delta(tmp_path / "a.delta")
    assert torch.equal(found.operator.left, delta.operator.left) and torch.equal(
        found.operator.right, delta.operator.right
    )
    assert (found.origin, found.operator.condition) == (delta.origin, delta.operator.condition)
    save_delta(found, tmp_path / "b.delta")
    assert (tmp_path / "a.delta").read_bytes() == (tmp_path / "b.delta").read_bytes()
    about = json.loads(open_file(tmp_path / "a.delta").metadata[KEY])
    assert list(about) == sorted(about), "equal deltas are equal bytes"


def test_a_file_is_replaced_unless_it_must_stay(delta: Delta, tmp_path: Path) -> None:
    path = tmp_path / "x.delta"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="use --force"):
        save_delta(delta, path, replace=False)
    assert path.read_bytes() == b"mine"
    save_delta(delta, path)
    assert load_delta(path).origin == delta.origin


def test_one_column_is_a_delta(delta: Delta, tmp_path: Path) -> None:
    left, right = (torch.ones(shape) for shape in ((8, 1), (1, 8)))
    save_delta(replace(delta, operators={"text": Operator(left, right, 1.0)}), tmp_path / "x.delta")
    assert load_delta(tmp_path / "x.delta").operator.rank == 1


def test_what_inspect_says(delta: Delta) -> None:
    found = describe(delta)
    assert (found["form"], found["rank"], found["width"]) == ("timecli delta", 3, 8)
    assert found["name"] == "x" and found["lambdas"] == (0.1, 1 / 3) and found["clip_skip"] == 1


def refused(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    save_file(tensors, path, metadata)
    with pytest.raises((DeltaError, CheckpointError)) as refusal:
        load_delta(path)
    return str(refusal.value)


def test_what_is_no_delta_is_refused(tmp_path: Path) -> None:
    about = {
        "format": 1,
        "condition": 1.0,
        "name": "x",
        "manifest": "",
        "version": "0",
        "encoder": "",
        "lambdas": [0.1],
        "matrices": ["k"],
        "tokens": [],
    }
    factors = {"left": torch.ones(4, 2), "right": torch.ones(2, 4)}
    whole = {KEY: json.dumps({**about, "layers": None})}
    path = tmp_path / "x.delta"
    assert "is not a delta file" in refused(path, factors, {})
    assert "damaged" in refused(path, factors, {KEY: "{"})
    assert "damaged" in refused(path, factors, {KEY: json.dumps(about)})
    assert "another delta format" in refused(path, factors, {KEY: json.dumps({**about, "format": 2})})
    without = {key: value for key, value in about.items() if key != "format"}
    assert "another delta format" in refused(path, factors, {KEY: json.dumps({**without, "layers": None})})
    assert "damaged" in refused(path, factors, {KEY: json.dumps({**about, "layers": None, "matrices": []})})
    assert "do not fit" in refused(path, {**factors, "right": torch.ones(3, 4)}, whole)
    for shapes in (((4,), (4,)), ((4, 1, 4), (4, 1, 4)), ((4, 0), (0, 4)), ((4, 2), (4, 2))):
        wrong = {name: torch.ones(shape) for name, shape in zip(("left", "right"), shapes, strict=True)}
        assert "do not fit, they must be F32 [d, r] and [r, d]" in refused(path, wrong, whole)
    assert "do not fit" in refused(path, {name: factor.half() for name, factor in factors.items()}, whole)
    assert "right holds NaN" in refused(path, {**factors, "right": torch.full((2, 4), float("nan"))}, whole)
    save_file(factors, path, whole)
    assert load_delta(path).operator.rank == 2, "the control: without the faults it is read"
