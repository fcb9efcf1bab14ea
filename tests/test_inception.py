"""Inception sees what torch-fidelity's sees, from weights that are read without unpickling, and FID is taken in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from timecli.errors import CheckpointError
from timecli.measuring import inception
from timecli.measuring.inception import Inception, load_inception
from timecli.measuring.quality import unpacked

from .conftest import PICTUREBOOK, Run
from .inception import picture, weights

CPU = torch.device("cpu")
GOLDEN = {
    (64, 64): [0.1921, 4.9504, 0.0045, 1.612, 2.2242, 7.8962, 1.665, 2.9923, 0.0, 0.0821, 0.0445, 0.0019, 0.0],
    (500, 300): [0.1856, 8.2371, 0.011, 2.1955, 4.0051, 14.0043, 2.6125, 5.3557, 0.0, 0.2318, 0.0542, 0.1383, 0.0],
}
"""Every tenth feature as torch-fidelity 0.4.0 has it: its `FeatureExtractorInceptionV3` with every convolution a
sixteenth as wide, these weights and this picture."""

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(weights(), tmp_path / "inception.safetensors")
    return tmp_path / "inception.safetensors"


@pytest.mark.parametrize("size", GOLDEN)
def test_it_sees_what_torch_fidelity_sees(size: tuple[int, int], file: Path) -> None:
    features = load_inception(file, CPU).seen([picture(size)], CPU)
    assert features.shape == (1, 128) and features.dtype == torch.float32
    assert torch.allclose(features[0, 7::10], torch.tensor(GOLDEN[size]), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EPSILON", 0.1),
        ("BLOCKS", tuple((name, paths, "mean" if pool == "max" else pool) for name, paths, pool in inception.BLOCKS)),
    ],
)
def test_the_golden_features_tell_another_network(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inception, name, value)
    features = Inception(weights(), "").seen([picture((64, 64))], CPU)
    assert not torch.allclose(features[0, 7::10], torch.tensor(GOLDEN[64, 64]), atol=1e-3)


def test_pictures_of_several_sizes_are_seen_each_as_alone() -> None:
    network, images = Inception(weights(), ""), [picture((64, 64)), picture((80, 40))]
    together = network.seen(images, CPU)
    alone = torch.cat([network.seen([image], CPU) for image in images])
    assert torch.allclose(together, alone, atol=1e-4) and not torch.allclose(together[0], together[1], atol=1e-2)


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def having(name: str, tensor: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: tensor}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("Mixed_7c.branch_pool.conv.weight"), "has no Mixed_7c.branch_pool.conv.weight; --inception takes"),
        (without("fc.weight"), "has no fc.weight"),
        (having("fc.weight", torch.zeros(1000, 128)), "an Inception of 1000 classes and FID's has 1008"),
        (having("Conv2d_2a_3x3.bn.bias", torch.tensor([0.0, torch.nan])), "Conv2d_2a_3x3.bn.bias holds NaN"),
        (having("Conv2d_2a_3x3.bn.bias", torch.zeros(2, dtype=torch.int32)), "Conv2d_2a_3x3.bn.bias is I32"),
        (having("Conv2d_2a_3x3.bn.running_var", -torch.ones(2)), "what it sees in a black picture holds NaN"),
        (having("Conv2d_2a_3x3.bn.bias", torch.zeros(3)), "is no Inception that can look at a picture"),
    ],
)
def test_other_weights_are_refused(change: Callable[[Tensors], Tensors], sentence: str, tmp_path: Path) -> None:
    save_file(change(weights()), tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=sentence):
        load_inception(tmp_path / "x.safetensors", CPU)


def test_a_pickle_is_not_opened(run: Run, picturebook: Path, tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "inception.pth")
    edit = next((PICTUREBOOK / "bench" / "validation").glob("*.toml"))
    folder = tmp_path / "reference"
    folder.mkdir()
    (folder / "metadata.jsonl").write_text("")
    options = ["--reference", folder, "--inception", tmp_path / "inception.pth"]
    done = run("bench", edit, picturebook, "-o", tmp_path / "out", *options)
    assert done.code == 2 and "is a pickle" in done.err and "weights_only=True" in done.err
    assert not (tmp_path / "out").exists()


def test_inception_alone_measures_nothing(run: Run, picturebook: Path, file: Path, tmp_path: Path) -> None:
    edit = next((PICTUREBOOK / "bench" / "validation").glob("*.toml"))
    done = run("bench", edit, picturebook, "-o", tmp_path / "out", "--inception", file)
    assert done.code == 2 and "give --reference, too" in done.err and not (tmp_path / "out").exists()


def test_a_bench_takes_fid_in_its_features_and_goes_on_with_no_other(
    run: Run, picturebook: Path, file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "reference"
    folder.mkdir()
    rows = [{"file_name": f"{side}.png", "text": f"A {colour} rose"} for side, colour in ((64, "red"), (48, "blue"))]
    for row, side in zip(rows, (64, 48), strict=True):
        picture((side, side)).save(folder / row["file_name"])
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    edits = sorted((Path(__file__).parent / "data" / "bench").glob("*.toml"))
    command = ["bench", *edits, picturebook, "-o", tmp_path / "out", "--seeds", 1, "--steps", 1, "--guidance", 3]
    command += ["--reference", folder]
    done = run(*command, "--inception", file)
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()[1:]]
    features = [unpacked(line["features"]) for line in lines if "features" in line]
    assert len(features) == 4 and all(len(row) == 128 for row in features)
    assert "|  | FID in Inception's features | CLIP Score |" in (tmp_path / "out" / "table.md").read_text()
    save_file({**weights(), "fc.weight": torch.ones(1008, 128)}, tmp_path / "other.safetensors")
    for other in ([], ["--inception", tmp_path / "other.safetensors"]):
        done = run(*command, *other)
        assert done.code == 2 and "holds the results of another bench" in done.err
