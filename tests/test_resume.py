"""Lines of a results file that are of another shape are refused by their number, before anything is drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from timecli.errors import ManifestError, OutputError
from timecli.manifests import settings
from timecli.manifests.manifest import parse
from timecli.measuring import bench
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
