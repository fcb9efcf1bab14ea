"""Killed, interrupted, out of space, or robbed of its source half-way: the old file stays, and nothing beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from safetensors.torch import save_file

from timecli import cli
from timecli.errors import CheckpointError, Interrupted
from timecli.models import layouts
from timecli.models.checkpoint import open_checkpoint
from timecli.shipping.publish import write_checkpoint

from .conftest import Run, ldm, small_tensors
from .stopped import make_file, make_folder, tree

KILLS = 30
MANIFEST = 'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file that takes a while to write."""
    (tmp_path / "in").mkdir()
    tensors = {name: torch.zeros(64, 64) for name in map(ldm, layouts.SD1.matrices)}
    save_file({**tensors, "padding": torch.ones(20_000_000)}, tmp_path / "in" / "big.safetensors")
    return tmp_path / "in" / "big.safetensors"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments_the_target_is_the_old_file_or_the_whole_edited_one(
    big: Path, forked: list[str], tmp_path: Path
) -> None:
    """A writer is forked again and again, and gets SIGKILL after a random part of the time that one write takes."""
    code = f"""
import os, random, signal, sys, time
from pathlib import Path
from timecli.models.checkpoint import open_checkpoint
from timecli.shipping.publish import write_checkpoint
model, target, rng = open_checkpoint(Path(sys.argv[1]), needs="nothing"), Path(sys.argv[2]), random.Random(0)
old = target.read_bytes()
write_checkpoint(model, target, {{}}, {{}}, None)
started = time.perf_counter()
write_checkpoint(model, target, {{}}, {{}}, None)
length, whole, seen = time.perf_counter() - started, target.read_bytes(), [0, 0]
for number in range({KILLS}):
    target.write_bytes(old)
    child = os.fork()
    if not child:
        write_checkpoint(model, target, {{}}, {{}}, None)
        os._exit(0)
    time.sleep(length * rng.uniform(0, 1.5))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    seen[[old, whole].index(target.read_bytes())] += 1
print(*seen)
"""
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"an older model")
    done = subprocess.run([*forked, "-c", code, big, target], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    old, whole = map(int, done.stdout.split())
    assert old + whole == KILLS and old > 0 and whole > 0, "the test must have seen both ends"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_half_way_nothing_is_left(number: signal.Signals, forked: list[str], tmp_path: Path) -> None:
    """The signal comes when the temporary file is seen; the program waits in the middle of it."""
    code = (
        "import sys, time; from timecli import cli; from timecli.files import outfile\n"
        "def slow(*_): time.sleep(30)\n"
        "outfile.os.fsync = slow\n"
        "cli.main(['edit', *sys.argv[1:]])"
    )
    (tmp_path / "x.toml").write_text(MANIFEST)
    save_file(small_tensors(), tmp_path / "small.safetensors")
    before = sorted(path.name for path in tmp_path.iterdir())
    command = [*forked, "-c", code, "x.toml", "small.safetensors", "-o", "out.safetensors"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob(".*.part")):
        assert process.poll() is None, "it ended before it wrote"
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number and errors.strip().endswith(
        "timecli: interrupted; nothing is half written."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_signal_right_behind_another_does_not_come_between_what_that_removes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(cli, "_last_signal", -cli.AT_ONCE)
    monkeypatch.setattr(cli.time, "monotonic", lambda: now)
    with pytest.raises(Interrupted):
        cli.interrupted(signal.SIGINT, None)
    now += 0.7 * cli.AT_ONCE
    cli.interrupted(signal.SIGTERM, None)
    now += 0.7 * cli.AT_ONCE
    with pytest.raises(Interrupted):
        cli.interrupted(signal.SIGINT, None)


def test_a_disk_that_is_full_half_way_is_named_and_leaves_the_old_file(forked: list[str], tmp_path: Path) -> None:
    """The kernel refuses to write on at 10 MB, as it does where no block is left."""
    code = (
        "import resource, sys; from timecli import cli; resource.setrlimit(resource.RLIMIT_FSIZE, (10**7, 10**7))\n"
        "cli.main(sys.argv[1:])"
    )
    (tmp_path / "x.toml").write_text(MANIFEST)
    save_file({**small_tensors(), "padding": torch.ones(5_000_000)}, tmp_path / "small.safetensors")
    (tmp_path / "out.safetensors").write_bytes(b"old")
    before = sorted(tmp_path.iterdir())
    command = ["edit", "x.toml", "small.safetensors", "-o", "out.safetensors", "--force"]
    done = subprocess.run([*forked, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == (
        "timecli: out.safetensors cannot be written: File too large; nothing was changed.\n"
    )
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "out.safetensors").read_bytes() == b"old"


def test_a_source_that_ends_half_way_is_named_and_leaves_the_old_file(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shrinks after the header of the copy is written: the first block that is read is the last."""
    from timecli.files.outfile import OutFile

    def shrink(file: OutFile, content: bytes) -> None:
        os.truncate(big, 10_000_000)
        file.write(content)

    model, target = open_checkpoint(big, needs="nothing"), tmp_path / "out.safetensors"
    target.write_bytes(b"old")
    monkeypatch.setattr(OutFile, "put", shrink)
    with pytest.raises(CheckpointError, match="big.safetensors became shorter while it was read"):
        write_checkpoint(model, target, {}, {}, None)
    assert target.read_bytes() == b"old" and sorted(p.name for p in tmp_path.iterdir()) == ["in", "out.safetensors"]


def test_a_source_that_cannot_be_read_is_named(big: Path, tmp_path: Path) -> None:
    from timecli.files.outfile import OutFile

    class Broken:
        name = "broken.safetensors"

        def fileno(self) -> int:
            raise OSError(5, "Input/output error")

        def seek(self, _: int) -> None:
            raise OSError(5, "Input/output error")

    with (
        pytest.raises(CheckpointError, match="broken.safetensors cannot be read: Input/output error"),
        OutFile(tmp_path / "x") as file,
    ):
        file.take(Broken(), 0, 10)  # type: ignore[arg-type]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_a_read_only_folder_is_named(run: Run, small: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(MANIFEST)
    done = run("edit", tmp_path / "x.toml", small, "--delta", "/proc/x.delta")
    assert done.code == 2 and done.err.startswith("timecli: /proc/x.delta cannot be written: "), done.err
    done = run("edit", tmp_path / "x.toml", small, "-o", "/proc/x.safetensors")
    assert done.code == 2 and done.err.count("\n") == 1 and "/proc" in done.err


@pytest.mark.parametrize("form", ["file", "folder", "in place"])
def test_a_source_that_is_written_to_half_way_is_refused(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder, also a file that was copied long before the last one was."""
    from timecli.shipping import publish

    source, target = tmp_path / "in", tmp_path / "in" if form == "in place" else tmp_path / "out"
    make_file(source) if form == "file" else make_folder(source)
    model, really = open_checkpoint(source, needs="nothing"), publish.rewrite
    first, old = model.places[0].file.path, tree(tmp_path)

    def touch(*arguments: object) -> None:
        really(*arguments)  # type: ignore[arg-type]
        os.utime(first, ns=(1, 1))

    monkeypatch.setattr(publish, "rewrite", touch)
    if form == "file":  # the last look of `rewrite` itself
        monkeypatch.undo()
        monkeypatch.setattr(
            "timecli.files.rewriting.safe_open", lambda *_, **__: os.utime(first, ns=(1, 1)) or first.open("rb")
        )
    with pytest.raises(CheckpointError, match="changed while it was read; wait until it is complete and try again"):
        write_checkpoint(model, target, {}, {}, None)
    assert tree(tmp_path) == old
    monkeypatch.undo()
    write_checkpoint(open_checkpoint(source, needs="nothing"), target, {}, {}, None)  # the control


def test_an_error_of_an_early_flush_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system reports it to one flush, here the first of three, and the last one goes well."""
    from timecli.errors import OutputError
    from timecli.files import outfile
    from timecli.files.staging import staged

    count, really = 0, os.fsync

    def fail_first(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == 1:
            raise OSError(5, "Input/output error")
        really(descriptor)

    def write() -> None:
        with staged(tmp_path / "out") as part, outfile.OutFile(part) as file:
            for _ in range(3):
                file.put(b"x" * 1000)

    monkeypatch.setattr(outfile, "WINDOW", 1000)
    monkeypatch.setattr(os, "fsync", fail_first)
    with pytest.raises(OutputError, match="out cannot be written: Input/output error; nothing was changed"):
        write()
    assert count >= 2 and list(tmp_path.iterdir()) == []
    write()
    assert (tmp_path / "out").stat().st_size == 3000


@pytest.mark.parametrize("start", [0, 100, 4096])
@pytest.mark.parametrize("kernel", ["copies", "refuses", "has no such call"])
def test_a_range_is_copied_in_whole_pages(
    kernel: str, start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, by the kernel or without it; file systems can share only what begins with a page in both files."""
    from timecli.files import outfile

    content, begun = os.urandom(50_000), []
    (tmp_path / "in").write_bytes(content)
    really = outfile.OutFile._take_in_kernel

    def spy(file: outfile.OutFile, source: BinaryIO, offset: int, count: int) -> int:
        assert source.name == str(tmp_path / "in")
        begun.append((offset, count))
        return really(file, source, offset, count)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(outfile, "BLOCK", 2 * outfile.PAGE)
    monkeypatch.setattr(outfile.OutFile, "_take_in_kernel", spy)
    if kernel == "refuses":
        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    elif kernel == "has no such call":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    with (tmp_path / "in").open("rb") as source, outfile.OutFile(tmp_path / "out") as file:
        file.put(b"before")
        file.take(source, start, 45_000)
    assert (tmp_path / "out").read_bytes() == b"before" + content[start:45_000]
    assert begun[0] == (start, outfile.PAGE - start if start == 100 else outfile.BLOCK)
    assert {count for _, count in begun[1:-1]} == {outfile.BLOCK}
    assert all(offset % outfile.PAGE == 0 for offset, _ in begun[1:])


@pytest.mark.parametrize(("size", "early"), [(999, 2), (1000, 3), (1001, 3)])
def test_every_window_is_flushed_as_it_is_complete(
    size: int, early: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from timecli.files import outfile

    flushed: list[int] = []
    monkeypatch.setattr(outfile, "WINDOW", 1000)
    monkeypatch.setattr(os, "fsync", flushed.append)
    with outfile.OutFile(tmp_path / "out") as file:
        number = file.fileno()
        for _ in range(3):
            file.put(b"x" * size)
    assert flushed == [number] * (early + 1), "and once at the end"
    assert file.closed


def test_a_failed_run_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong is said, not what the disk says of bytes that nobody wants any more."""
    from timecli.files import outfile

    flushes = 0

    def fail(_: int) -> None:
        nonlocal flushes
        flushes += 1
        time.sleep(0.1)
        raise OSError(5, "Input/output error")

    def write(error: type[BaseException] | None) -> None:
        with outfile.OutFile(tmp_path / "out") as file:
            files.append(file)
            for _ in range(5):
                file.put(b"x" * 1000)
            if error:
                raise error

    files: list[outfile.OutFile] = []
    monkeypatch.setattr(outfile, "WINDOW", 1000)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        write(KeyboardInterrupt)
    assert flushes < 5
    with pytest.raises(OSError, match="Input/output error"):
        write(None)
    assert flushes >= 5, "the control"
    assert all(file.closed for file in files)
