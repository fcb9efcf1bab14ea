"""FID is zero for the same pictures and grows with their distance; captions and pictures belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from timecli.drawing.judge import load_judge
from timecli.errors import CheckpointError
from timecli.measuring import quality

from .conftest import PICTUREBOOK, Run


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """Plain pictures of two colours, one caption twice."""
    folder = tmp_path / "reference"
    folder.mkdir()
    rows = [("red.png", "A red rose"), ("blue.png", "A blue rose"), ("again.png", "A red rose")]
    for name, text in rows:
        Image.new("RGB", (64, 64), text.split()[1]).save(folder / name)
    (folder / "metadata.jsonl").write_text("".join(json.dumps({"file_name": n, "text": t}) + "\n" for n, t in rows))
    return folder


def test_features_travel_exactly() -> None:
    row = torch.randn(128)
    assert torch.equal(quality.unpacked(quality.packed(row)), row)


def test_fid_measures_a_shift_as_its_square() -> None:
    """Of two clouds of one shape it is the squared distance of their means."""
    features = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    reference = quality.Reference(("x",) * 500, features)
    same = quality.measure(reference, [20.0, 30.0], [quality.packed(row) for row in features])
    assert same.fid == pytest.approx(0, abs=1e-3) and same.clip_score == 25
    moved = quality.measure(reference, [20.0], [quality.packed(row) for row in features + 2])
    assert moved.fid == pytest.approx(8 * 4, rel=1e-3)


def test_the_judge_sees_which_caption_fits(reference: Path) -> None:
    judge = load_judge(PICTUREBOOK / "judge", torch.device("cpu"))
    loaded = quality.load(reference, judge)
    assert loaded.captions == ("A red rose", "A blue rose") and loaded.features.shape == (2, 128)
    image = Image.open(reference / "red.png")
    (right, wrong), _ = judge.described([image, image], ["A red rose", "A blue rose"])
    assert 0 <= wrong < right <= 100


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 1 must be JSON"),
        ('{"file_name": "red.png"}', "line 1 must be JSON"),
        ('{"file_name": "none.png", "text": "x"}', "none.png is not in the folder"),
        ('{"file_name": "../metadata.jsonl.png", "text": "x"}', "metadata.jsonl.png is not in the folder"),
    ],
)
def test_bad_references_are_refused(line: str, sentence: str, reference: Path) -> None:
    (reference / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(CheckpointError, match=sentence):
        quality.captions(reference)


def test_a_bench_draws_captions_and_shares_them_out(
    run: Run, picturebook: Path, reference: Path, tmp_path: Path
) -> None:
    edits = sorted((Path(__file__).parent / "data" / "bench").glob("*.toml"))
    options = ["--seeds", 2, "--steps", 1, "--guidance", 3, "--reference", reference]
    done = run("bench", *edits, picturebook, "-o", tmp_path / "out", *options)
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()[1:]]
    drawn = {(row["model"], row["prompt"]) for row in rows if "clip_score" in row}
    assert drawn == {
        ("base", "A red rose"),
        ("base", "A blue rose"),
        (f"manifest/{edits[0].stem}", "A red rose"),
        (f"manifest/{edits[1].stem}", "A blue rose"),
    }
    assert "|  | FID in the judge's features | CLIP Score |" in (tmp_path / "out" / "table.md").read_text()
