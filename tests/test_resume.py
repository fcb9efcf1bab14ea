"""Lines of a results file that are of another shape are refused by their number, before anything is drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from timecli.drawing.album import mine
from timecli.errors import ManifestError, OutputError
from timecli.files.rewriting import write_tensors
from timecli.manifests import settings
from timecli.manifests.manifest import parse
from timecli.measuring import bench, edits, pictures
from timecli.measuring.quality import SHORT, packed
from timecli.measuring.schedule import BASE, Batch, Group

HEAD = json.dumps({"seeds": [0, 1]})
PLAN = [
    Batch(BASE, (Group("A rose", (("A rose", "A blue rose"), ("A rose", "A red rose"))),)),
    Batch(BASE, (Group("A caption", ()),)),
]
ANSWER = {"model": BASE, "prompt": "A rose", "questions": [list(pair) for pair in PLAN[0].groups[0].questions]}
ANSWERED = {**ANSWER, "answers": [[0, 1], [1, 1]], "seen": packed(torch.ones(2, 3), SHORT)}
SEEN = {"model": BASE, "prompt": "A caption", "questions": [], "clip_score": 0.0, "features": packed(torch.ones(3))}


def resumed(path: Path, *lines: Any) -> int:
    """How many batches are left to do."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{line}\n" for line in (HEAD, *texts)))
    return len(bench.resume(path, HEAD, PLAN))


def test_whole_lines_are_kept(tmp_path: Path) -> None:
    """The control."""
    path = tmp_path / "results.jsonl"
    assert [resumed(path), resumed(path, ANSWERED), resumed(path, ANSWERED, SEEN)] == [2, 1, 0]
    assert bench.load(path)[BASE, "A rose", ("A rose", "A red rose")] == (1, 1)
    assert bench.load_seen(path)[BASE, "A rose"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert bench.load_quality(path)[BASE] == [(0.0, SEEN["features"])]


@pytest.mark.parametrize(
    "line",
    [
        *("null", "[]", '"x"', "5", "{}", "", "{", "[" * 5000, "9" * 5000, "\x1b[2J", '{"model": NaN}'),
        ANSWER,
        *({**ANSWERED, "model": value} for value in (None, {}, ["base"])),
        *({**ANSWERED, "prompt": value} for value in (None, 5, "a rose")),
        *({**ANSWERED, "questions": value} for value in (None, 5, {}, [5], [["A rose"]], ANSWER["questions"][::-1])),
        *({**ANSWERED, "answers": value} for value in (None, 5, "01", {}, [], [[0, 1]], [[0], [1]], [[0, 2], [1, 1]])),
        *({**ANSWERED, "seen": value} for value in (None, 5, [], "x", "AAAA", packed(torch.ones(3), SHORT))),
        *({**ANSWERED, "answers": [[0, value], [1, 1]]} for value in (None, "1", 0.5, [1], {}, -1)),
        *({**ANSWERED, "seen": value} for value in ("", packed(torch.full((2,), float("nan")), SHORT))),
    ],
    ids=str,
)  # fmt: skip
def test_lines_of_another_shape(line: Any, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="line 2 is not of this bench"):
        resumed(tmp_path / "results.jsonl", line)


@pytest.mark.parametrize("key", ["clip_score", "features"])
def test_qualities_of_another_shape(key: str, tmp_path: Path) -> None:
    for value in (None, True, 5, [], {}, "x", "AAAA", "é", packed(torch.tensor([float("nan")]))):
        with pytest.raises(OutputError, match="line 3 is not of this bench"):
            resumed(tmp_path / "results.jsonl", ANSWERED, {**SEEN, key: value})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of this system are others")
def test_a_pipe_or_a_folder_is_no_results_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(OutputError, match=f"is a {name}"):
            bench.resume(tmp_path / name, HEAD, PLAN)


def test_lambda_is_written_into_every_form_of_a_manifest_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = 'source = "a"\ndestination = "b"\n'
    other = pair.replace('"a"', '"c"')
    for text in (
        f'name = "x"\n[[edit]]\n{pair}',
        'name = "x"\nsolve.lambda = 3\nedit = [{source = "a", destination = "b", lambda = 2}]\n',
        f'name = "x"\n["solve"]\n"lambda" = 2\n[[edit]]\n"lambda" = 3\n{pair}'.replace("\n", "\r\n"),
        f'name = "x"\n[[edit]]\n{pair}[solve]\ntokens = "all"\n[[edit]]\n{other}',
    ):
        after = parse(settings.written(parse(text), {"lambda": 7.5}))
        assert {after.lam(edit) for edit in after.edits} == {7.5}
    monkeypatch.setattr(settings.tomlkit, "dumps", lambda _: text)  # λ is lost on the way
    with pytest.raises(ManifestError, match=r"lambda cannot be written into x; give it \[solve\]"):
        settings.written(parse(text), {"lambda": 7.5})


def test_results_of_others_are_refused_by_their_line(tmp_path: Path) -> None:
    """A bench in a checkout may be anybody's, with a header that anybody can calculate."""
    path, lines = tmp_path / "results.jsonl", [json.dumps(ANSWERED), json.dumps(SEEN)]
    bench.require_ours(path)  # there is none
    path.write_text(f"{HEAD}\n")
    bench.run(path, HEAD, [[line] for line in lines])
    bench.require_ours(path)
    assert bench.resume(path, HEAD, PLAN) == [], "the control"
    whole = path.read_text()
    first, second = whole.splitlines()[1:]
    forged = {
        2: [
            f"{HEAD}\n{lines[0]}\n",
            whole.replace("[0, 1], [1, 1]", "[0, 0], [1, 1]"),
            f"{HEAD}x\n{first}\n",
            f'{HEAD}\n{lines[0][:-1]}, "seal": "{"0" * 64}"}}\n',
            f'{HEAD}\n{lines[0][:-1]}, "seal": "{second[-66:-2]}"}}\n',
            f"{HEAD}\n\n",
        ],
        3: [f"{HEAD}\n{first}\n{lines[1]}\n", f"{HEAD}\n{first}\n{first[:-1]} }}\n"],
    }
    for number, texts in forged.items():
        for text in texts:
            assert text != whole
            path.write_text(text)
            with pytest.raises(OutputError, match=f"line {number} was drawn by somebody else"):
                bench.require_ours(path)
    path.write_text(whole + lines[0][:20])
    bench.require_ours(path)  # half a line after a crash is cut off


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of this system are others")
def test_weights_and_pictures_of_others_are_made_anew(tmp_path: Path) -> None:
    text = {"a": torch.ones(2, 3)}
    place = tmp_path / "x.safetensors"

    def kept(what: str = "head/model", **metadata: str) -> bool:
        if metadata:
            write_tensors(place, text, metadata)
        return edits._kept(place, what) is not None

    seal = mine().seal("head/model", edits._content(text)).hex()
    assert not kept() and kept(**{edits.SEAL: seal}) and kept(), "the control"
    assert not kept("another/model") and not kept(model="x")
    assert not any(kept(**{edits.SEAL: wrong}) for wrong in ("", "x", "0" * 64, seal[:-2], seal + "00"))
    text["a"][0, 0] = 2
    assert not kept(**{edits.SEAL: seal})
    place.unlink()
    os.mkfifo(place)
    assert not kept()
    picture, album = Image.new("RGB", (4, 4), "red"), pictures.Album(tmp_path / "pictures", HEAD)
    album._keep("m", "p", {0: picture, 1: picture})
    assert len(album.pictures("m", "p", [0, 1])) == 2 and album.lacks({"m": ["p"]}, [0, 1]) == {}, "the control"
    assert pictures.Album(album.folder, "other").pictures("m", "p", [0]) == []
    one, other = (album.path("m", "p", seed) for seed in (0, 1))
    one.write_bytes(other.read_bytes())
    assert album.pictures("m", "p", [0, 1]) == [] and album.lacks({"m": ["p"]}, [0, 1]) == {"m": ["p"]}
    one.unlink()
    os.mkfifo(one)
    assert album.pictures("m", "p", [0]) == []
