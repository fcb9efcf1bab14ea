"""TIMED's rows become manifests that `edit`, `check` and `verify` read; the published files have these columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from timecli.manifests import keys, manifest, timed

from .conftest import Run

HEAD = ",".join(timed.COLUMNS["timed"])


def row(**changes: str) -> str:
    values = {"old": "A dog", "new": "A green dog"}
    for i in timed.TESTS:
        values |= {f"positive{i}": f"A dog number {i}", f"gt{i}": f"A green dog number {i}"}
        values |= {f"negative{i}": f"A cat number {i}", f"gn{i}": f'"A green cat, number {i}"'}
    return ",".join({**values, **changes}[column] for column in timed.COLUMNS["timed"])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A byte order mark, Windows line ends, stray blanks, and a test that is its own destination."""
    replaced = row(old="Harry the  wizard ", new="Harry the plumber", positive2="Bugs Bunny", gt2="Bugs  Bunny")
    (tmp_path / "t.csv").write_bytes(f"\ufeff{HEAD}\r\n{row()}\r\n{replaced}\r\n".encode())
    return tmp_path / "t.csv"


def test_every_row_becomes_a_manifest(table: Path, run: Run, tmp_path: Path) -> None:
    done = run("import", "timed", table, "-o", tmp_path / "out")
    assert done.code == 0 and "wrote 2 manifests" in done.out
    assert "line 3: positive2 'Bugs Bunny' is its own destination; it is left out." in done.err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["001-a-green-dog.toml", "002-harry-the-plumber.toml"]
    first, second = (manifest.load(tmp_path / "out" / name) for name in names)
    (edit,) = first.edits
    assert (edit.source, edit.destination) == ("A dog", "A green dog")
    assert [probe.prompt for probe in edit.positives] == [f"A dog number {i}" for i in timed.TESTS]
    assert edit.negatives[4].destination == "A green cat, number 5"
    assert second.edits[0].source == "Harry the wizard" and len(second.edits[0].positives) == 4
    assert first.solve == keys.Solve(), "the paper's defaults"


def test_check_pairs_replaced_words_too(table: Path, run: Run, small: Path, tmp_path: Path) -> None:
    assert run("import", "timed", table, "-o", tmp_path / "out").code == 0
    for path in (tmp_path / "out").iterdir():
        assert run("plan", path, small).code == 0


def test_professions_have_a_balance_and_no_augmentations(run: Run, tmp_path: Path) -> None:
    head = ",".join(timed.COLUMNS["gender"])
    tests = ",".join(f"a CEO in scene {i}" for i in timed.TESTS)
    (tmp_path / "g.csv").write_text(f"{head}\na CEO,a female CEO,A photo of a CEO,{tests}\n")
    assert run("import", "gender", tmp_path / "g.csv", "-o", tmp_path / "out").code == 0
    found = manifest.load(tmp_path / "out" / "001-a-female-ceo.toml")
    assert found.solve.augment == () and found.balance is not None
    assert found.balance.descriptions == ("a female CEO", "a male CEO")
    assert found.balance.validation == ("A photo of a CEO",) and len(found.balance.prompts) == 5


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("old,new\na,b\n", "has no column 'positive1'"),
        (f"{HEAD}\n{row(gt3='')}\n", "line 2: gt3 is empty"),
        (f"{HEAD}\n{row(new='a DOG')}\n", "source and destination are both"),
        (b"\xff\xfe", "not a CSV file in UTF-8"),
        (f"{HEAD}\n{row(old=chr(34) + 'A dog' + chr(34) + ' x')}\n", "is not CSV"),
    ],
)
def test_bad_tables_are_refused_and_nothing_is_written(
    content: str | bytes, sentence: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    done = run("import", "timed", tmp_path / "t.csv", "-o", tmp_path / "out")
    assert done.code == 2 and sentence in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_there_stays(table: Path, run: Run, tmp_path: Path) -> None:
    assert run("import", "timed", table, "-o", tmp_path / "out").code == 0
    kept = tmp_path / "out" / "001-a-green-dog.toml"
    kept.write_text("mine")
    assert run("import", "timed", table, "-o", tmp_path / "out").code == 2 and kept.read_text() == "mine"
    assert run("import", "timed", table, "-o", tmp_path / "out", "--force").code == 0 and kept.read_text() != "mine"
    assert run("import", "csv", table, "-o", tmp_path / "out").code == 2


def test_any_letter_travels(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{HEAD}\n{row(old='A 🌹 é', new='A blue 🌹 é')}\n", encoding="utf-8")
    assert run("import", "timed", tmp_path / "t.csv", "-o", tmp_path / "out").code == 0
    (path,) = (tmp_path / "out").iterdir()
    assert manifest.load(path).edits[0].destination == "A blue 🌹 é"
