"""A laboratory: a model is written again and again, in every form, by children that are stopped in the middle.

`python -m tests.stopped` reads lines of JSON, `[HOW, FOLDER, COUNT]`, and answers each with what was seen, or with the
traceback of what failed. Everything heavy is imported once, and every line has a process of its own.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from timecli import cli
from timecli.errors import Interrupted, OutputError
from timecli.files import swap
from timecli.files.swap import NAME
from timecli.models import layouts, streams
from timecli.models.checkpoint import open_checkpoint
from timecli.shipping.publish import write_checkpoint

STEPS = ("replace", "rename", "link", "unlink", "fsync", "rmdir", "mkdir")
"""What the system is asked for, one after the other."""
MATRICES = layouts.SD1.matrices
Tree = dict[str, tuple[int, str, bytes]]


def weights(value: float, names: list[str]) -> dict[str, torch.Tensor]:
    return {name: torch.full((2, 8), value) for name in names}


def make_file(path: Path, value: float = 1.0) -> None:
    names = ["model.diffusion_model." + matrix.names[streams.LDM] for matrix in MATRICES]
    save_file(weights(value, names) | {"vae": torch.ones(40)}, path)


def make_folder(path: Path, value: float = 1.0) -> None:
    """A UNet in two shards and a variant, a VAE, and what its owner keeps in the same folder."""
    names = [matrix.names[streams.DIFFUSERS] for matrix in MATRICES]
    for part in ("unet", "vae", ".git"):
        (path / part).mkdir(parents=True)
    (path / "model_index.json").write_text("{}")
    (path / "unet" / "config.json").write_text("{}")
    for i, part in enumerate((names[:9], names[9:]), 1):
        save_file(weights(value, part), path / "unet" / f"diffusion_pytorch_model-0000{i}-of-00002.safetensors")
    save_file(weights(value, names), path / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    save_file({"vae": torch.ones(40)}, path / "vae" / "diffusion_pytorch_model.safetensors")
    (path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (path / "notes.txt").write_text("mine")
    (path / "old.ckpt").write_bytes(b"\x80")
    (path / "unet" / "diffusion_pytorch_model.fp16.safetensors").chmod(0o640)
    (path / "notes.txt").chmod(0o600)


def other_folder(path: Path) -> None:
    """An older output, with nothing of its owner's."""
    make_folder(path, 3.0)
    shutil.rmtree(path / ".git")
    for name in ("notes.txt", "old.ckpt"):
        (path / name).unlink()


def file_beside(root: Path) -> None:
    make_file(root / "in")
    make_file(root / "out", 3.0)


def file_fresh(root: Path) -> None:
    make_file(root / "in")


def file_in_place(root: Path) -> None:
    make_file(root / "out")
    (root / "out").chmod(0o640)


def file_behind_a_link(root: Path) -> None:
    (root / "far").mkdir()
    make_file(root / "far" / "real")
    (root / "out").symlink_to(root / "far" / "real")


def folder_beside(root: Path) -> None:
    make_folder(root / "in")
    other_folder(root / "out")


def folder_fresh(root: Path) -> None:
    make_folder(root / "in")


def folder_behind_a_link(root: Path) -> None:
    make_folder(root / "in")
    (root / "far").mkdir()
    other_folder(root / "far" / "real")
    (root / "out").symlink_to("far/real")


def folder_in_place(root: Path) -> None:
    make_folder(root / "out")


def one_file_of_a_folder_in_place(root: Path) -> None:
    make_folder(root / "out")
    for shard in (root / "out" / "unet").glob("*-of-*"):
        shard.unlink()


def links_in_a_folder_in_place(root: Path) -> None:
    """As in a cache of a model hub."""
    make_folder(root / "far")
    blobs = root / "blobs"
    blobs.mkdir()
    for i, file in enumerate(sorted((root / "far").rglob("*.safetensors"))):
        shutil.move(file, blobs / str(i))
        file.symlink_to(blobs / str(i))
    (root / "out").symlink_to(root / "far")


FORMS: list[Callable[[Path], None]] = [
    file_beside,
    file_fresh,
    file_in_place,
    file_behind_a_link,
    folder_beside,
    folder_fresh,
    folder_behind_a_link,
    folder_in_place,
    one_file_of_a_folder_in_place,
    links_in_a_folder_in_place,
]


def write(root: Path) -> None:
    """One run: `in` to `out`, or `out` in place, with all its matrices set to 2."""
    source = root / "in" if (root / "in").exists() else root / "out"
    model = open_checkpoint(source, needs="nothing")
    edited = {place.key: torch.full((2, 8), 2.0) for place in model.places}
    write_checkpoint(model, root / "out", edited, {"timecli.test": "x"}, None, replace=(root / "out").exists())


def careless(root: Path) -> None:
    """The control: how it is not done."""
    target = (root / "out").resolve()
    for file in [target] if target.is_file() else list(target.rglob("*.safetensors")):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        os.unlink(file)
        with file.open("wb") as new:
            new.write(content)
            os.fsync(new.fileno())


def tree(root: Path) -> Tree:
    """Everything there is: permissions, what links say, and bytes."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        link = os.readlink(path) if path.is_symlink() else ""
        content = path.read_bytes() if path.is_file() and not link else b""
        found[str(path.relative_to(root))] = (path.lstat().st_mode, link.replace(str(root), ""), content)
    return found


def without_parts(found: Tree) -> Tree:
    """Without what is half written beside its place, folders and all."""
    return {name: entry for name, entry in found.items() if not any(p.endswith(".part") for p in name.split("/"))}


def mixed(found: Tree, before: Tree, after: Tree) -> bool:
    """Whether files of the old and of the new model stand side by side under their names."""
    names = [name for name in found if before.get(name, found[name]) != after.get(name, found[name])]
    kinds = {found[name] == before.get(name) for name in names if name in before and name in after}
    return len(kinds) == 2


class Laboratory:
    """A form of output, what it is before a run and after one, and children that run."""

    def __init__(self, folder: Path, form: Callable[[Path], None], run: Callable[[Path], None] = write) -> None:
        self.folder, self.run = folder / form.__name__, run
        self.template, self.root = self.folder / "template", self.folder / "root"
        self.template.mkdir(parents=True)
        form(self.template)
        self.reset()
        self.before = tree(self.root)
        started = time.perf_counter()
        assert self.child(lambda: None) == 0
        self.seconds = time.perf_counter() - started
        self.after = tree(self.root)
        assert self.before != self.after

    def reset(self) -> None:
        """A fresh copy, whose absolute links lead into itself."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.template, self.root, symlinks=True)
        for link in [path for path in self.root.rglob("*") if path.is_symlink()]:
            place = os.readlink(link).replace(str(self.template), str(self.root))
            link.unlink()
            link.symlink_to(place)

    def start(self, prepare: Callable[[], None]) -> int:
        ready, begun = os.pipe()
        child = os.fork()
        if child:
            os.close(begun)
            os.read(ready, 1)
            os.close(ready)
            return child
        code = 1
        try:
            try:
                os.write(begun, b"!")
                code = self.ended(prepare)
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        finally:
            os._exit(code)

    def child(self, prepare: Callable[[], None]) -> int:
        _, status = os.waitpid(self.start(prepare), 0)
        return os.waitstatus_to_exitcode(status)

    def here(self, prepare: Callable[[], None]) -> int:
        """As in a child, in this process: for what a process survives."""
        steps = {name: getattr(os, name) for name in STEPS}
        cli._last_signal = -cli.AT_ONCE
        try:
            return self.ended(prepare)
        finally:
            for name, step in steps.items():
                setattr(os, name, step)

    def ended(self, prepare: Callable[[], None]) -> int:
        """A run, and the exit code of how it ends."""
        try:
            prepare()
            self.run(self.root)
        except Interrupted:
            return 2
        except OutputError as error:
            (self.folder / "said").write_text(str(error))
            return 3
        return 0

    def whole(self) -> str:
        """Whether the old or the new model is there, to the byte, with nothing else changed."""
        found = without_parts(tree(self.root))
        assert found in (self.before, self.after), sorted(found)
        return "old" if found == self.before else "new"

    def settled(self) -> str:
        """What a stopped run leaves is never mixed; the next run that looks at it finds the old or the new model."""
        assert not mixed(tree(self.root), self.before, self.after)
        sentences = swap.settle(self.root / "out")
        if (self.root / "out").exists():
            list(open_checkpoint(self.root / "out", needs="nothing").projections())
        found = tree(self.root)
        assert not sentences or all(NAME in name for name in found.keys() - without_parts(found)), sorted(found)
        return self.whole() + (" settled" if sentences else "")

    def again(self) -> None:
        """Where there is litter, a next run leaves what an undisturbed one does, and none."""
        if tree(self.root) in (self.before, self.after):
            return
        self.run(self.root)
        assert tree(self.root) == self.after, sorted(tree(self.root).keys() ^ self.after.keys())


def at_step(number: int, act: Callable[[], Any], steps: float = 1) -> Callable[[], None]:
    """Act before the given step of the system, or before so many from that one on."""
    count = 0

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def step(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if number <= count < number + steps:
                act()
            return real(*args, **options)

        setattr(os, name, step)

    def prepare() -> None:
        for name in STEPS:
            wrap(name)

    return prepare


def every_step(
    laboratory: Laboratory,
    run: Callable[[Callable[[], None]], int],
    act: Callable[[], Any],
    look: Callable[[int], str],
    steps: float = 1,
) -> Counter:
    """Stop at the first step, at the second, and so on, until a run has no further step."""
    seen: Counter[str] = Counter()
    for number in range(1, 1000):
        laboratory.reset()
        marker = laboratory.folder / "reached"
        marker.unlink(missing_ok=True)

        def marked(marker: Path = marker) -> None:
            marker.touch()
            act()

        code = run(at_step(number, marked, steps))
        seen[look(code)] += 1
        if not marker.exists():
            return seen
    raise AssertionError("it never ends")


def killed(laboratory: Laboratory) -> Counter:
    """Ended before every single step."""

    def look(code: int) -> str:
        assert code in (0, 9)
        found = laboratory.settled()
        laboratory.again()
        return found

    return every_step(laboratory, laboratory.child, lambda: os._exit(9), look)


def interrupted(laboratory: Laboratory) -> Counter:
    """SIGINT twice at every single step: the old or the new model, and no litter, without a next run."""

    def strike() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    def look(code: int) -> str:
        assert code == (2 if (laboratory.folder / "reached").exists() else 0), "no signal is lost"
        assert tree(laboratory.root) in (laboratory.before, laboratory.after), sorted(tree(laboratory.root))
        return laboratory.whole()

    return every_step(laboratory, laboratory.here, strike, look)


def refused(laboratory: Laboratory, steps: float) -> Counter:
    """The system refuses one step, or that and some that follow: what is said of it is true."""

    def refuse() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def look(code: int) -> str:
        assert code in (0, 3)
        said = (laboratory.folder / "said").read_text() if code == 3 else "is written"
        if "next timecli command" in said:
            assert steps > 1 or "is written" in said, "what one refusal has begun is undone"
            assert not mixed(tree(laboratory.root), laboratory.before, laboratory.after)
            found = laboratory.settled()
        else:
            found = laboratory.whole()
        assert ("nothing was changed" in said) <= (found == "old"), (said, found)
        assert ("is written" in said) <= found.startswith("new"), (said, found)
        laboratory.again()
        return found

    return every_step(laboratory, laboratory.here, refuse, look, steps)


def at_random(laboratory: Laboratory, number: int, rng: random.Random) -> str:
    """SIGKILL, or SIGINT twice, at a random moment of a run: while what it had begun is removed, or right behind."""
    laboratory.reset()
    child = laboratory.start(lambda: None)
    time.sleep(laboratory.seconds * rng.uniform(0, 1.2))
    os.kill(child, number)
    if number == signal.SIGINT:
        time.sleep(rng.uniform(0, rng.choice((0.0003, 0.1 * laboratory.seconds))))
        os.kill(child, number)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 2, -number), status
    if number == signal.SIGINT:
        assert tree(laboratory.root) in (laboratory.before, laboratory.after), sorted(tree(laboratory.root))
    found = laboratory.settled()
    laboratory.again()
    return found


def seen(how: str, folder: Path, count: int) -> dict[str, Counter]:
    signal.signal(signal.SIGINT, cli.interrupted)
    if how == "careless":
        return {"careless": killed(Laboratory(folder, folder_in_place, careless))}
    forms = [folder_in_place] if how == "refused twice" else FORMS  # where much is replaced, and may be put back
    laboratories = [Laboratory(folder, form) for form in forms]
    names = [laboratory.folder.name for laboratory in laboratories]
    if how in ("kills", "interrupts"):
        rng, number = random.Random(0), signal.SIGKILL if how == "kills" else signal.SIGINT
        seen = {name: Counter() for name in names}
        for i in range(count):
            laboratory = laboratories[i % len(laboratories)]
            seen[laboratory.folder.name][at_random(laboratory, number, rng)] += 1
        return seen
    looks = {
        "killed": killed,
        "interrupted": interrupted,
        "refused": lambda one: refused(one, 1),
        "refused twice": lambda one: refused(one, 2),
        "refused ever since": lambda one: refused(one, inf),
    }
    return {name: looks[how](one) for name, one in zip(names, laboratories, strict=True)}


def answer(how: str, folder: str, count: int) -> None:
    """Print a line from a child, which dies with all that it has changed in itself."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        found: dict[str, Any] = {"seen": seen(how, Path(folder), count)}
    except BaseException:
        found = {"failed": traceback.format_exc()}
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    gc.freeze()  # a child that collects garbage would copy all the pages that it looks at
    for line in sys.stdin:
        answer(*json.loads(line))
