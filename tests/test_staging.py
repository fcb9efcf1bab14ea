"""Parts have names of their own, locks, and the permissions of what they replace; a half-done swap is settled."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from timecli.editing.delta import save_delta
from timecli.errors import OutputError
from timecli.files import parts, staging, swap
from timecli.files.outfile import OutFile
from timecli.files.parts import Lock, Part, beside
from timecli.files.rewriting import write_tensors
from timecli.files.staging import staged
from timecli.files.writing import write_bytes
from timecli.models.checkpoint import open_checkpoint
from timecli.shipping.publish import write_checkpoint

from .conftest import Run
from .stopped import make_file, make_folder, tree
from .test_unlucky import MANIFEST

TOKEN = "0123456789abcdef"
UNIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs Unix")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_child(act: Callable[[], object]) -> int:
    """Fork, act, and end; the exit code."""
    child = os.fork()
    if not child:
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@UNIX
def test_two_runs_with_one_process_id_write_one_output_each_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in two containers that share a folder, in each of which timecli is process 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    target, contents = tmp_path / "out", [bytes([number]) * 3_000_000 for number in range(4)]

    def write(content: bytes) -> None:
        with staged(target) as part, OutFile(part) as file:
            for start in range(0, len(content), 100_000):
                file.put(content[start : start + 100_000])
                time.sleep(0.001)

    for _ in range(5):
        children = []
        for content in contents:
            children.append(os.fork())
            if not children[-1]:
                code = 1
                try:
                    write(content)
                    code = 0
                finally:
                    os._exit(code)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(contents)
        assert target.read_bytes() in contents and names(tmp_path) == ["out"]


@UNIX
def test_what_killed_runs_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    model, target = tmp_path / "model", tmp_path / "out"
    make_folder(model)

    def die() -> None:
        with staged(target, folder=True) as part:
            (part / "leaked").write_text("from another run")
            os._exit(0)

    assert in_child(die) == 0 and len(names(tmp_path)) == 2
    living = Part(target, folder=True)
    (living.path / "file").touch()
    others = beside(tmp_path / "out2", TOKEN, "part")
    others.touch()
    write_checkpoint(open_checkpoint(model, needs="nothing"), target, {}, {}, None)
    assert names(tmp_path) == sorted([living.path.name, others.name, "model", "out"])
    assert not list(target.rglob("leaked")) and (living.path / "file").exists()
    living.discard()
    assert not living.path.exists()


@UNIX
def test_a_part_that_another_run_takes_for_stale_before_it_is_locked_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeping: list[Lock] = []

    def lock(path: Path) -> Lock:
        if not sweeping:
            sweeping.append(Lock(path))
        return Lock(path)

    monkeypatch.setattr(parts, "Lock", lock)
    part = Part(tmp_path / "out")
    assert len(names(tmp_path)) == 2, "the other run removes the first"
    other = Lock(part.path)
    assert other.held is False
    other.release()
    sweeping[0].release()
    parts.sweep(tmp_path / "out")
    assert names(tmp_path) == [part.path.name]
    part.discard()


@UNIX
def test_a_stale_part_in_which_an_old_file_waits_is_no_litter(tmp_path: Path) -> None:
    """It belongs to a swap that is half done, and settling needs it."""
    for end in ("part", "old"):
        beside(tmp_path / "out", TOKEN, end).touch()
    write_bytes(tmp_path / "out", b"x")
    assert len(names(tmp_path)) == 3


@UNIX
def test_a_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever name somebody has guessed: it is made, not opened."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    tokens = iter([TOKEN, "f" * 16])
    monkeypatch.setattr(parts.secrets, "token_hex", lambda _: next(tokens))
    beside(tmp_path / "out", TOKEN, "part").symlink_to(mine)
    with pytest.raises(OutputError, match="cannot be written: File exists; nothing was changed"):
        write_bytes(tmp_path / "out", b"x")
    assert mine.read_text() == "mine" and not (tmp_path / "out").exists()


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_what_appears_meanwhile_is_replaced_only_when_asked(
    links: bool, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first check found nothing there. Both ways of the system: links, and file systems without."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    made = "made by another program meanwhile; use --force to replace it"
    target, model = tmp_path / "out", open_checkpoint(small)
    with pytest.raises(OutputError, match=made), staged(target, replace=False):
        target.write_text("theirs")
    assert target.read_text() == "theirs" and names(tmp_path) == ["out"]
    for write in (
        lambda: write_tensors(target, {"x": torch.zeros(1)}, {}, replace=False),
        lambda: write_checkpoint(model, target, {}, {}, None, replace=False),
        lambda: write_bytes(target, b"x", replace=False),
    ):
        with pytest.raises(OutputError, match=made):
            write()
    with pytest.raises(OutputError, match=made), staged(tmp_path / "folder", replace=False, folder=True):
        (tmp_path / "folder").mkdir()
    assert names(tmp_path) == ["folder", "out"]
    with staged(target) as part:
        part.write_text("ours")
    with staged(tmp_path / "fresh", replace=False) as part:
        part.write_text("ours")
    assert target.read_text() == (tmp_path / "fresh").read_text() == "ours"
    assert names(tmp_path) == ["folder", "fresh", "out"]


@UNIX
def test_permissions_stay_and_fresh_files_follow_the_umask(tmp_path: Path) -> None:
    def bits(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    before = os.umask(0o027)
    try:
        for mode in (0o600, 0o644, 0o440):
            (tmp_path / "old").touch()
            (tmp_path / "old").chmod(mode)
            write_bytes(tmp_path / "old", b"x")
            assert bits(tmp_path / "old") == mode
        write_bytes(tmp_path / "new", b"x")
        with staged(tmp_path / "folder", folder=True) as part:
            (part / "file").touch()
        assert (bits(tmp_path / "new"), bits(tmp_path / "folder")) == (0o640, 0o750)
        (tmp_path / "folder").chmod(0o700)
        with staged(tmp_path / "folder", folder=True):
            pass
        assert bits(tmp_path / "folder") == 0o700 and not list((tmp_path / "folder").iterdir())
    finally:
        os.umask(before)


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127, "模" * 85):
        write_bytes(tmp_path / name, b"x")
        with staged(tmp_path / name[:-1], folder=True):
            pass
        with staged(tmp_path / name[:-1], folder=True):
            pass
        assert len(names(tmp_path)) == 2
        (tmp_path / name).unlink()
        (tmp_path / name[:-1]).rmdir()


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file's last content, its folder's last list of names; a hash that is filled in later, too."""
    make_folder(tmp_path / "folder")
    make_file(tmp_path / "file")
    flushed: dict[int, object] = {}
    really = os.fsync

    def fsync(descriptor: int) -> None:
        really(descriptor)
        path = f"/proc/self/fd/{descriptor}"
        found = sorted(os.listdir(path)) if os.path.isdir(path) else Path(path).read_bytes()
        flushed[os.fstat(descriptor).st_ino] = found

    monkeypatch.setattr(os, "fsync", fsync)
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    about = {"modelspec.hash_sha256": "0x"}
    for name, metadata in (("file", about), ("folder", {})):
        model = open_checkpoint(tmp_path / name, needs="nothing")
        write_checkpoint(model, tmp_path / f"{name}-out", {}, metadata, None)
    write_bytes(tmp_path / "bytes", b"x")
    write_tensors(tmp_path / "tensors", {"x": torch.zeros(3)}, {})
    monkeypatch.undo()
    assert b'"modelspec.hash_sha256":"0x' + b"0" * 64 not in (tmp_path / "file-out").read_bytes()
    written = [tmp_path / name for name in ("file-out", "folder-out", "bytes", "tensors")]
    for path in [*written, *(tmp_path / "folder-out").rglob("*")]:
        found = sorted(os.listdir(path)) if path.is_dir() else path.read_bytes()
        assert flushed.get(path.stat().st_ino) == found, path
    assert set(map(os.path.basename, written)) <= set(flushed[tmp_path.stat().st_ino])  # type: ignore[call-overload]


@UNIX
def test_each_half_of_a_swap_is_on_the_disk_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a disk that loses its power could mix them."""
    steps: list[str] = []

    def watched(name: str, told: Callable[..., str]) -> None:
        really = getattr(os, name)

        def step(*arguments: int | str | Path) -> None:
            really(*arguments)
            steps.append(told(*arguments))

        monkeypatch.setattr(os, name, step)

    def end(path: str | Path) -> str:
        _, point, last = Path(path).name.rpartition(".")
        return last if point else "target"

    watched("rename", lambda source, target: f"{end(source)} to {end(target)}")
    watched("link", lambda _, target: end(target))
    watched("fsync", lambda number: "flush folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "flush file")
    watched("unlink", lambda path: f"remove {end(path)}")
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.touch()
    with staging.staged_in(tmp_path, files):
        pass
    monkeypatch.undo()
    flush = "flush folder"
    journal = ["flush file", "timecli-swap", "remove part", flush]
    moves = ["target to old", "target to old", flush, "part to target", "part to target", flush]
    assert steps == [*journal, *moves, "remove old", "remove old", flush, "remove timecli-swap", flush]


@UNIX
def test_a_half_done_swap_is_said_and_settled_by_any_command_that_names_it(
    run: Run, picturebook_folder: Path, tmp_path: Path
) -> None:
    """Also by a file in it, through a link, and while the name itself is missing."""
    target, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to(target)
    model = open_checkpoint(picturebook_folder, needs="nothing")
    write_checkpoint(model, target, {}, {}, None)

    def die(steps: dict[str, int]) -> None:
        def step(really: Callable[..., None], name: str) -> Callable[..., None]:
            def count(*arguments: Path) -> None:
                steps[name] -= 1
                if steps[name] < 0:
                    os._exit(9)
                really(*arguments)

            return count

        os.rename, swap.remove = step(os.rename, "rename"), step(swap.remove, "remove")  # type: ignore[assignment]
        write_checkpoint(model, target, {}, {"timecli.test": "x"}, None)

    config, unet = ("--config", picturebook_folder), "unet/diffusion_pytorch_model.safetensors"
    (tmp_path / "x.toml").write_text(MANIFEST)
    aside = ({"rename": 1, "remove": 9}, "before it replaced {}; what was there is there again.\n")
    placed = ({"rename": 9, "remove": 0}, "while it replaced {}; that is finished.\n")
    for command, (steps, end) in (
        (("inspect", target), aside),
        (("inspect", target), placed),
        (("inspect", link), aside),
        (("inspect", target / unet), aside),
        (("plan", tmp_path / "x.toml", link), aside),
        (("diff", picturebook_folder, target), placed),
        (("edit", tmp_path / "x.toml", picturebook_folder, "-o", target, "--force"), aside),
        (
            (
                "edit",
                tmp_path / "x.toml",
                target / unet,
                "--text-encoder",
                target,
                *config,
                "--delta",
                tmp_path.parent / "d",
                "--stack",
                "--force",
            ),
            aside,
        ),
    ):
        assert in_child(lambda steps=steps: die({**steps})) == 9  # type: ignore[misc]
        assert target.exists() == (end == placed[1])
        done = run(*command)
        assert done.code == 0, done.err
        assert done.err.startswith(f"timecli: warning: an earlier run was stopped {end.format(target)}"), done.err
        assert names(tmp_path) == ["link", "out", "x.toml"] and run("inspect", target).err == ""


def half_done(folder: Path, ends: dict[str, str], content: object = None) -> Path:
    """A journal for targets of which some names are there: t(arget), p(art), o(ld)."""
    for target, there in ends.items():
        for letter, path in (
            ("t", folder / target),
            *((e[0], beside(folder / target, TOKEN, e)) for e in ("part", "old")),
        ):
            if letter in there:
                path.write_text(letter)
    journal = folder / ".timecli-swap"
    journal.write_text(json.dumps(dict.fromkeys(ends, TOKEN) if content is None else content))
    return journal


@pytest.mark.parametrize(
    ("ends", "result"),
    [
        (("tp", "tp"), ("t", "t")),
        (("po", "tp"), ("o", "t")),
        (("po", "po"), ("o", "o")),
        (("o", "tp"), ("o", "t")),
        (("to", "po"), ("t", "p")),
        (("to", "to"), ("t", "t")),
        (("t", "to"), ("t", "t")),
        (("t", "tp"), ("t", "t")),
        (("t", "t"), ("t", "t")),
    ],
)
def test_settling(ends: tuple[str, str], result: tuple[str, str], tmp_path: Path) -> None:
    """Nothing is in place: back. Something is: on. In both cases no name is left but the targets'."""
    half_done(tmp_path, dict(zip("ab", ends, strict=True)))
    sentences = swap.settle(tmp_path)
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == result
    assert names(tmp_path) == ["a", "b"] and len(sentences) == (set(ends) != {"t"})
    assert swap.settle(tmp_path) == []


@pytest.mark.parametrize("ends", [("tpo", "po"), ("to", "tp"), ("to", "tpo")])
def test_what_somebody_has_put_there_since_stays(ends: tuple[str, str], tmp_path: Path) -> None:
    half_done(tmp_path, dict(zip("ab", ends, strict=True)))
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match="something else is there since; move that away, or remove"):
        swap.settle(tmp_path)
    assert {path: path.read_text() for path in tmp_path.iterdir()} == before


HOSTILE = {
    "no JSON": "{",
    "a list": [1],
    "no token": {"a": "../../victim"},
    "a number": {"a": 5},
    "nothing": {},
    "deep": "[" * 100_000,
    "NUL": {"a\0b": TOKEN},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_journal_is_one_sentence(name: str, tmp_path: Path) -> None:
    content = HOSTILE[name]
    journal = half_done(tmp_path, {}, content)
    if isinstance(content, str):
        journal.write_text(content)
    with pytest.raises(OutputError, match=r"\.timecli-swap is damaged; remove it"):
        swap.settle(tmp_path / "model.safetensors")


@UNIX
def test_a_journal_from_elsewhere_moves_nothing_of_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder that was downloaded: only what has a part's own name is moved or removed, whatever it lists."""
    (tmp_path / "model").mkdir()
    mine = tmp_path / "mine"
    mine.write_text("mine")
    half_done(tmp_path / "model", {}, {"../mine": TOKEN, str(mine): TOKEN, "..": TOKEN})
    assert swap.settle(tmp_path / "model") == [] and mine.read_text() == "mine"
    journal = half_done(tmp_path / "model", {"a": "po"})
    monkeypatch.setattr(os, "geteuid", lambda: journal.stat().st_uid + 1)
    with pytest.raises(OutputError, match="is not of a run of yours"):
        swap.settle(tmp_path / "model")
    with (
        pytest.raises(OutputError, match="is not of a run of yours"),
        staging.staged_in(tmp_path / "model", [mine] * 2),
    ):
        pass
    monkeypatch.undo()
    journal.unlink()
    os.mkfifo(journal)
    with pytest.raises(OutputError, match="is not of a run of yours"):
        swap.settle(tmp_path / "model")
    journal.unlink()
    journal.symlink_to(mine)
    with pytest.raises(OutputError, match="is not of a run of yours"):
        swap.settle(tmp_path / "model")
    assert mine.read_text() == "mine"


def test_a_swap_that_finds_a_stopped_one_settles_that_first(tmp_path: Path) -> None:
    journal = half_done(tmp_path, {"a": "po"})
    (tmp_path / "b").write_text("old")
    part = Part(tmp_path / "b")
    part.path.write_text("new")
    swap.swap(tmp_path, [swap.Move(tmp_path / "b", part.token)], journal)
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("o", "new")
    assert names(tmp_path) == ["a", "b"]


def test_a_swap_that_cannot_be_settled_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half_done(tmp_path, {"a": "po"})
    before = names(tmp_path)

    def rename(source: Path, target: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OutputError, match="is of a run that was stopped, and cannot be settled: Input/output error"):
        swap.settle(tmp_path)
    monkeypatch.undo()
    assert names(tmp_path) == before
    assert len(swap.settle(tmp_path)) == 1 and names(tmp_path) == ["a"], "the control: the next one does it"


@UNIX
def test_a_swap_of_a_living_run_is_waited_for(tmp_path: Path) -> None:
    """Whoever reads meanwhile would find half of it."""
    journal = half_done(tmp_path, {"a": "po"})
    lock, found = Lock(journal), list[list[str]]()
    waiting = threading.Thread(target=lambda: found.append(swap.settle(tmp_path)))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and not (tmp_path / "a").exists(), "it must not touch what is being moved"
    os.rename(beside(tmp_path / "a", TOKEN, "part"), tmp_path / "a")
    beside(tmp_path / "a", TOKEN, "old").unlink()
    journal.unlink()
    half_done(tmp_path, {"a": "p"})
    following = Lock(journal)  # of a third run
    lock.release()
    waiting.join(0.3)
    assert waiting.is_alive() and beside(tmp_path / "a", TOKEN, "part").exists()
    beside(tmp_path / "a", TOKEN, "part").unlink()
    journal.unlink()
    following.release()
    waiting.join(10)
    assert found == [[]] and names(tmp_path) == ["a"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    really = os.rename

    def rename(source: Path, target: Path) -> None:
        if source.name.endswith(".part"):
            raise OSError(5, "Input/output error")
        really(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with (
        pytest.raises(OutputError, match="out cannot be written: Input/output error; nothing was changed"),
        staged(tmp_path / "out", folder=True) as part,
    ):
        (part / "new").touch()
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["old"]


@UNIX
def test_where_there_are_no_locks_nothing_is_taken_for_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network file systems, and on Windows."""
    stale = beside(tmp_path / "out", TOKEN, "part")
    stale.touch()

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(parts.fcntl, "flock", refuse)
    write_bytes(tmp_path / "out", b"x")
    monkeypatch.setattr(parts, "fcntl", None)
    write_bytes(tmp_path / "out", b"y")
    with staging.alone(tmp_path), staging.alone(tmp_path):
        assert stale.exists() and (tmp_path / "out").read_bytes() == b"y"
    monkeypatch.undo()
    write_bytes(tmp_path / "out", b"z")
    assert names(tmp_path) == ["out"], "the control"


@UNIX
def test_two_benches_in_one_folder(run: Run, picturebook: Path, tmp_path: Path) -> None:
    """The second one ends in a sentence; the lock of a dead one does not count."""
    code = (
        "import sys; from pathlib import Path; from timecli.files.parts import Lock\n"
        "Lock(Path(sys.argv[1])); print(flush=True); input()"
    )
    (tmp_path / "x.toml").write_text(MANIFEST)
    output = tmp_path / "out"
    output.mkdir()
    command = ("bench", tmp_path / "x.toml", picturebook, "-o", output, "--seeds", "1", "--steps", "1")
    other = subprocess.Popen(
        [sys.executable, "-c", code, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout and other.stdout.readline() == "\n"
    done = run(*command)
    assert done.code == 2 and done.err == (
        f"timecli: another run is writing to {output}; wait until it ends, or choose another folder.\n"
    )
    assert names(output) == []
    other.kill()
    other.wait()
    done = run(*command)
    assert done.code == 0 and "table.md" in names(output), done.err


def test_a_delta_is_staged_like_everything_else(run: Run, small: Path, tmp_path: Path) -> None:
    from timecli.editing.delta import load_delta

    (tmp_path / "x.toml").write_text(MANIFEST)
    assert run("edit", tmp_path / "x.toml", small, "--delta", tmp_path / "x.delta").code == 0
    with pytest.raises(OutputError, match="made by another program meanwhile"):
        save_delta(load_delta(tmp_path / "x.delta"), tmp_path / "x.delta", replace=False)


@UNIX
def test_a_file_system_without_permissions_links_locks_and_flushes_is_written_to(
    run: Run, small: Path, picturebook_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network share or a stick: the same files, fresh and in place of others, and nothing stays beside them."""
    (tmp_path / "m.toml").write_text('name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n')

    numbers = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
    for name in ("wanted", *map(str, numbers)):
        shutil.copytree(picturebook_folder, tmp_path / name / "mine")

    def written(folder: Path) -> dict[str, list[object]]:
        for model, name in ((small, "one.safetensors"), (picturebook_folder, "model")):
            for _ in range(2):
                done = run("edit", tmp_path / "m.toml", model, "-o", folder / name, "--force")
                assert done.code == 0, done.err
        done = run("edit", tmp_path / "m.toml", folder / "mine", "--in-place", "--dtype", "fp16")
        assert done.code == 0, done.err
        (folder / "there").write_text("x")
        with pytest.raises(OutputError):
            write_bytes(folder / "there", b"y", replace=False)
        return {name: content for name, (_, *content) in tree(folder).items()}

    wanted = written(tmp_path / "wanted")

    def refuse(name: str, number: int, refused: list[str]) -> Callable[..., None]:
        def call(*_: object, **__: object) -> None:
            refused.append(name)
            raise OSError(number, os.strerror(number))

        return call

    for number in numbers:
        refused: list[str] = []
        with monkeypatch.context() as share:
            for module, name in ((os, "chmod"), (os, "link"), (parts.fcntl, "flock"), (os, "fsync")):
                if name != "fsync" or number != errno.EPERM:
                    share.setattr(module, name, refuse(name, number, refused))
            found = written(tmp_path / str(number))
        assert {"chmod", "link", "flock"} <= set(refused)
        assert found == wanted, "and no part stays"


@UNIX
def test_a_part_that_cannot_be_made_ready_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk refuses, and not the file system's kind, is an error, and leaves nothing."""
    (tmp_path / "out").write_text("mine")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "chmod", refuse)
    with pytest.raises(OutputError, match="nothing was changed"):
        write_bytes(tmp_path / "out", b"x")
    assert names(tmp_path) == ["out"] and (tmp_path / "out").read_text() == "mine"
