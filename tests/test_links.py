"""What others can put into a folder (links, pipes, folders of theirs) is neither written through nor believed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from timecli.drawing import album
from timecli.errors import OutputError
from timecli.files import seals
from timecli.files.outfile import OutFile
from timecli.files.rewriting import write_tensors
from timecli.files.staging import staged
from timecli.files.writing import make_folder, write_bytes
from timecli.manifests import editors
from timecli.manifests.manifest import load
from timecli.manifests.timed import COLUMNS
from timecli.models.checkpoint import open_checkpoint
from timecli.text import encoding, worlds

from .conftest import FEW, PICTUREBOOK, Run, small_manifest

UNIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and pipes of this system are others")
MINE = b"what somebody else wants to be overwritten"
Planted = Callable[[Path, Path], object]
PLANTED: dict[str, Planted] = {
    "link": lambda place, mine: place.symlink_to(mine),
    "hard link": lambda place, mine: os.link(mine, place),
    "dangling link": lambda place, mine: place.symlink_to(mine.parent / "not there"),
    "pipe": lambda place, _: os.mkfifo(place),
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mine").write_bytes(MINE)
    return tmp_path / "home" / "mine"


def untouched(mine: Path) -> bool:
    return mine.read_bytes() == MINE and os.listdir(mine.parent) == [mine.name]


@UNIX
@pytest.mark.parametrize("kind", PLANTED)
def test_what_stands_at_a_name_that_nobody_gave_is_replaced_and_not_written_through(
    kind: str, mine: Path, tmp_path: Path
) -> None:
    tensors = {"x": torch.ones(2)}
    writers: list[Callable[..., None]] = [
        lambda path, **more: write_bytes(path, b"new", **more),
        lambda path, **more: write_tensors(path, tensors, {}, **more),
    ]
    for number, write in enumerate(writers):
        place = tmp_path / str(number)
        PLANTED[kind](place, mine)
        with pytest.raises(OutputError, match="use --force"):
            write(place, replace=False)
        write(place)
        assert untouched(mine) and place.is_file() and not place.is_symlink() and place.stat().st_nlink == 1


def test_a_link_that_the_user_names_is_followed_and_stays(mine: Path, tmp_path: Path) -> None:
    """The control."""
    (tmp_path / "link").symlink_to(mine)
    write_bytes(tmp_path / "link", b"new", follow=True)
    assert (tmp_path / "link").is_symlink() and mine.read_bytes() == b"new"


def test_a_part_that_became_a_link_is_not_written_through(mine: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError), staged(tmp_path / "out") as part:
        part.unlink()
        part.symlink_to(mine)
        with OutFile(part) as file:
            file.put(b"new")
    assert untouched(mine) and not (tmp_path / "out").exists()


def test_folders_of_ours_are_no_links(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "report").symlink_to(mine.parent, target_is_directory=True)
    for own, folder in ((1, tmp_path / "report"), (2, tmp_path / "report" / "more")):
        with pytest.raises(OutputError, match="report is a link to .*; remove it"):
            make_folder(folder, own)
    make_folder(tmp_path / "report" / "more", 1)
    assert (mine.parent / "more").is_dir(), "the control: a folder that the user named may be one"


@pytest.fixture
def cached(tmp_path: Path) -> tuple[Path, Callable[[], int]]:
    """A folder for a cache, and how many everyday prompts a run with it encodes."""
    (tmp_path / "few.txt").write_text(FEW)
    (tmp_path / "x.toml").write_text(
        'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n[preserve]\neveryday = "few.txt"\n'
    )
    model = open_checkpoint(PICTUREBOOK / "picturebook.safetensors")
    encoder = encoding.read_text_encoder(model, None, torch.device("cpu"))

    def encoded() -> int:
        counted = [0]
        worlds.kept(load(tmp_path / "x.toml"), encoder, tmp_path / "cache", counted.append)
        return sum(counted)

    return tmp_path / "cache", encoded


@UNIX
@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_planted_in_the_cache_is_made_anew(
    kind: str, cached: tuple[Path, Callable[[], int]], mine: Path
) -> None:
    folder, encoded = cached
    assert encoded() == 3
    (file,) = folder.iterdir()
    file.unlink()
    PLANTED[kind](file, mine)
    assert [encoded(), encoded()] == [3, 0] and untouched(mine) and not file.is_symlink()


@UNIX
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_cache_into_which_others_can_put_things_is_left_alone(
    mode: int, cached: tuple[Path, Callable[[], int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, encoded = cached
    assert [encoded(), encoded()] == [3, 0], "the control"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(mode)
    assert encoded() == 3
    folder.chmod(0o700)
    assert encoded() == 0
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert encoded() == 3, "somebody else's"


def test_a_cache_that_is_a_link_is_left_alone(cached: tuple[Path, Callable[[], int]], mine: Path) -> None:
    folder, encoded = cached
    folder.symlink_to(mine.parent)
    assert [encoded(), encoded()] == [3, 3] and untouched(mine)


@UNIX
def test_a_key_is_the_users_alone(tmp_path: Path, mine: Path) -> None:
    def fresh() -> seals.Sealer:
        seals.sealer.cache_clear()
        return seals.sealer(tmp_path / "cache")

    first, key = fresh(), tmp_path / "cache" / "key"
    assert first.lasts and fresh() == first and key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    seal = first.seal("a", b"b")
    assert first.holds("a", b"b", seal)
    assert not any(first.holds(*wrong) for wrong in (("a", b"c", seal), ("ab", b"", seal), ("a", b"b", b"")))
    key.chmod(0o644)  # others may have read it
    second = fresh()
    assert second.lasts and second.key != first.key and not second.holds("a", b"b", seal)
    for kind in ("link", "pipe"):
        key.unlink()
        PLANTED[kind](key, mine)
        assert fresh().lasts and untouched(mine)
    (tmp_path / "cache").chmod(0o777)
    assert not fresh().lasts and fresh().key != fresh().key
    assert "key" not in repr(first) or first.key.hex() not in repr(first)


REPORT = ("report.html", "sheet.png", "report.md", "report.json", album.FOLDER)


@pytest.mark.parametrize("name", REPORT)
def test_verify_writes_through_no_link_in_its_folder(
    name: str, run: Run, picturebook: Path, mine: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / name).symlink_to(mine if "." in name[1:] else mine.parent)
    done = run("verify", small_manifest(tmp_path), picturebook, "-o", folder, "--force", "--seeds", 1)
    assert done.code == 2 and f"{name} is a link to" in done.err and untouched(mine)
    assert os.listdir(folder) == [name], "nothing was drawn"


@pytest.mark.parametrize("name", ["results.jsonl", "table.md", "edits.png", "pictures", "weights"])
def test_bench_writes_through_no_link_in_its_folder(
    name: str, run: Run, picturebook: Path, mine: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / name).symlink_to(mine if "." in name else mine.parent)
    done = run("bench", small_manifest(tmp_path), picturebook, "-o", folder, "--seeds", 1)
    assert done.code == 2 and f"{name} is a link to" in done.err and untouched(mine)


def test_names_that_a_command_chooses_itself_are_no_links(
    run: Run, picturebook: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blue-rose.toml").symlink_to(mine)
    (tmp_path / "small-verify").symlink_to(mine.parent, target_is_directory=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "table.csv").write_text(
        f"{','.join(COLUMNS['gender'])}\nA baker,A female baker,A baker at work,a,b,c,d,e\n"
    )
    made = run("import", "gender", "table.csv", "-o", "folder", "--json")
    (row,) = map(Path, json.loads(made.out)["written"])
    row.unlink()
    row.symlink_to(mine)
    commands = (
        ("init", "a rose", "a blue rose", "--force"),
        ("import", "gender", "table.csv", "-o", "folder", "--force"),
        ("verify", small_manifest(tmp_path), picturebook, "--force"),
    )
    for command in commands:
        done = run(*command)
        assert done.code == 2 and "only links that you name yourself are followed" in done.err, done.err
    assert untouched(mine)
    done = run("init", "a rose", "a blue rose", "--force", "-o", "blue-rose.toml")
    assert done.code == 0 and (tmp_path / "blue-rose.toml").is_symlink(), "the control: it is named"
    assert b"A blue rose" in mine.read_bytes() or b"a blue rose" in mine.read_bytes()


def test_a_dead_link_under_the_schemas_name_leads_nowhere(run: Run, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / editors.NAME).symlink_to(mine.parent / "new")
    done = run("init", "a rose", "a blue rose", "-o", tmp_path / "work" / "x.toml", "--json")
    assert done.code == 0 and untouched(mine)
    assert [Path(name).name for name in json.loads(done.out)["written"]] == ["x.toml"]
