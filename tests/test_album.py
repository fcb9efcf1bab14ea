"""A verification that was stopped goes on, draws in other precisions, and compares values side by side."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from timecli.drawing import album, memory, render
from timecli.errors import Interrupted
from timecli.files.seals import Sealer

from .conftest import FEW, Outcome, Run

MANIFEST = (
    'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
    'negatives = [{prompt = "A poppy", destination = "A blue poppy"}]\n[verify]\nsteps = 1\nguidance = 3\n'
    '[preserve]\neveryday = "few.txt"\n'
)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "x.toml").write_text(MANIFEST)
    (tmp_path / "few.txt").write_text(FEW)
    return tmp_path / "x.toml"


def verified(run: Run, manifest: Path, model: Path, folder: Path, *options: object) -> Outcome:
    return run("verify", manifest, model, "-o", folder, "--seeds", 2, "--json", *options)


def test_a_stopped_run_goes_on_and_ends_in_the_same_report(
    run: Run, picturebook: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    really = render._draw

    def counted(pipeline: object, batch: list[object], *rest: object) -> list[Image.Image]:
        if len(drawn) == stop:
            raise Interrupted(15)
        drawn.append(len(batch))
        return really(pipeline, batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(render, "_draw", counted)
    monkeypatch.setattr(memory, "LATENT_PIXELS", 6 * 64)
    stop = 3
    stopped = verified(run, manifest, picturebook, tmp_path / "again")
    assert stopped.code == 128 + 15
    assert stopped.err.endswith("nothing is half written, and the same command goes on where it was.\n")
    assert (tmp_path / "again" / album.FOLDER).is_dir() and not (tmp_path / "again" / "report.json").exists()
    before, stop = len(drawn), -1
    done = verified(run, manifest, picturebook, tmp_path / "again")
    assert done.code == 0 and not (tmp_path / "again" / album.FOLDER).exists()
    batches = len(drawn)
    drawn.clear()
    fresh = verified(run, manifest, picturebook, tmp_path / "fresh")
    assert done.out == fresh.out and batches == len(drawn), "nothing was drawn twice"
    assert before == 3
    for name in ("sheet.png", "report.md"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_a_damaged_picture_is_drawn_again_and_another_model_has_another_album(tmp_path: Path) -> None:
    made = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    kept = album.Album(tmp_path / "a")
    assert kept.batch(0, 2) is None
    kept.keep(0, made)
    for _ in range(2):
        found = kept.batch(0, 2)
        assert found is not None
        assert [picture.getpixel((0, 0)) for picture in found] == [(255, 0, 0), (0, 0, 255)]
    assert kept.batch(1, 2) is None and album.Album(tmp_path / "b").batch(0, 2) is None
    (tmp_path / "a" / "0-1.png").write_bytes((tmp_path / "a" / "0-1.png").read_bytes()[:40])
    assert kept.batch(0, 2) is None
    kept.keep(0, made)
    assert len(kept.batch(0, 2) or []) == 2


def test_pictures_in_bfloat16_are_nearly_those_in_float32(
    run: Run, picturebook: Path, manifest: Path, tmp_path: Path
) -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        done = verified(run, manifest, picturebook, tmp_path / precision, "--precision", precision, "--seeds", 1)
        assert done.code == 0, done.err
        found[precision] = json.loads(done.out)
        assert found[precision]["precision"] == {"fp32": "float32", "bf16": "bfloat16"}[precision]
    kept = [found[p]["scores"]["edited"]["kept"]["mean"] for p in ("fp32", "bf16")]
    assert kept[0] == pytest.approx(kept[1], abs=0.05) and kept[0] != kept[1]


def test_values_side_by_side(run: Run, picturebook: Path, manifest: Path, tmp_path: Path) -> None:
    done = verified(run, manifest, picturebook, tmp_path / "v", "--vary", "strength=0.01,1")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    names = ["strength 0.01", "strength 1"]
    means = [found["scores"][name]["harmonic_mean"] for name in names]
    assert list(found["edits"]) == names and found["best"] == names[means.index(max(means))]
    assert all(name in found["scores"] for name in names) and "edited" not in found["scores"]
    kept = [found["scores"][name]["kept"]["mean"] for name in names]
    assert kept[0] > kept[1], "a hundredth of the strength changes less"
    assert [found["edits"][name]["strength"] for name in names] == [[0.01], [1.0]]
    single = json.loads(verified(run, manifest, picturebook, tmp_path / "s", "--strength", 1).out)
    assert found["scores"][names[1]] == single["scores"]["edited"], "each is as if drawn alone"
    with Image.open(tmp_path / "v" / "sheet.png") as wide, Image.open(tmp_path / "s" / "sheet.png") as narrow:
        assert wide.width > narrow.width and wide.height == narrow.height


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--vary", "seeds=1,2"], "--vary seeds is not known; use lambda, everyday-weight, strength"),
        (["--vary", "strength=1,much"], "'much' is not a number"),
        (["--vary", "strength=1,2", "--strength", 3], "choose one"),
    ],
)
def test_what_cannot_be_varied_is_refused(
    run: Run, picturebook: Path, manifest: Path, tmp_path: Path, options: list[object], sentence: str
) -> None:
    done = verified(run, manifest, picturebook, tmp_path / "v", *options)
    assert done.code == 2 and sentence in done.err and not (tmp_path / "v").exists()


def test_a_batch_follows_the_memory_that_is_free() -> None:
    side = 64 * 64
    assert [memory.pictures(side, room) for room in (None, 2**30, 80 * 2**30)] == [4, 4, 40]
    assert memory.pictures(16 * 16, None) == 64 and memory.pictures(512 * 512, 2**33) == 1


def planted(place: Path, what: str) -> dict[str, Callable[[], object]]:
    """What somebody else can put under the name of a kept picture, whose seal would be for `what`."""
    blue = album.png(Image.new("RGB", (64, 64), "blue"))
    foreign = Sealer(b"k" * 32, True)
    return {
        "no seal": lambda: place.write_bytes(blue),
        "a bomb": lambda: place.write_bytes(bomb()),
        "our seal for another": lambda: place.write_bytes(album.sealed(Image.open(BytesIO(blue)), "x/0-0.png")),
        "our seal of another": lambda: place.write_bytes(blue + album.mine().seal(what, blue + b"x")),
        "their seal": lambda: place.write_bytes(blue + foreign.seal(what, blue)),
        "a pipe": lambda: os.mkfifo(place),
        "a folder": place.mkdir,
        "a link to a pipe": lambda: (os.mkfifo(f"{place}.pipe"), place.symlink_to(f"{place}.pipe")),
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of this system are others")
def test_pictures_of_others_count_as_missing(tmp_path: Path) -> None:
    for number, kind in enumerate(planted(tmp_path, "")):
        kept = album.Album(tmp_path / str(number))
        kept.keep(0, [Image.new("RGB", (4, 4), "red")])
        assert kept.batch(0, 1) is not None, "the control"
        place = tmp_path / str(number) / "0-0.png"
        place.unlink()
        planted(place, f"{number}/0-0.png")[kind]()
        assert kept.batch(0, 1) is None, kind
    other = album.Album(tmp_path / "other")
    other.keep(0, [Image.new("RGB", (4, 4), "blue")])
    (tmp_path / "other").rename(tmp_path / "moved")
    assert album.Album(tmp_path / "moved").batch(0, 1) is None, "of another model, whose folder has another name"


def test_a_report_with_planted_pictures_is_that_of_a_fresh_run(
    run: Run, picturebook: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull request that commits what a stopped run would have left gains nothing by it."""
    folder, drawn, really, close = tmp_path / "again", list[int](), render._draw, album.close
    monkeypatch.setattr("timecli.drawing.verification.album.close", lambda _: None)
    fresh = verified(run, manifest, picturebook, folder, "--seeds", 1)
    kept = sorted((folder / album.FOLDER).rglob("*.png"))
    kinds = [kind for kind in planted(tmp_path, "") if kind != "a folder"]  # over which no file can be written
    for place, kind in zip(kept, kinds, strict=False):
        place.unlink()
        planted(place, f"{place.parent.name}/{place.name}")[kind]()
    monkeypatch.setattr(render, "_draw", lambda p, batch, *rest: (drawn.append(len(batch)), really(p, batch, *rest))[1])
    monkeypatch.setattr("timecli.drawing.verification.album.close", close)
    again = verified(run, manifest, picturebook, folder, "--seeds", 1, "--force")
    assert again.code == 0 and again.out == fresh.out, again.err
    assert drawn and not (folder / album.FOLDER).exists()


def bomb() -> bytes:
    """A small PNG that says it is 60000 pixels wide and high."""
    whole = album.png(Image.new("RGB", (1, 1)))
    head = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]


def test_a_run_that_can_keep_no_key_does_not_say_that_it_goes_on(
    run: Run, picturebook: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise Interrupted(15)

    monkeypatch.setattr(render, "_draw", stopped)
    for mode, said in ((0o700, True), (0o777, False)):
        cache = tmp_path / str(mode)
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        (cache / "timecli").mkdir(parents=True)
        (cache / "timecli").chmod(mode)
        done = verified(run, manifest, picturebook, tmp_path / "out", "--no-cache")
        assert done.code == 143 and ("goes on where it was" in done.err) == said, done.err
