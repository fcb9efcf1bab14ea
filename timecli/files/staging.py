"""Outputs are written beside their place and moved there when they are complete and on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from timecli.errors import OutputError
from timecli.files import swap
from timecli.files.parts import Lock, Part, flush, held_back, real
from timecli.files.swap import Move


@contextmanager
def staged(target: Path, replace: bool = True, folder: bool = False, follow: bool = False) -> Iterator[Path]:
    """A new file or folder beside `target` to write to. It takes the target's place when all went well.

    Args:
        target: where it goes.
        replace: whether it may replace what is there.
        folder: whether it is a folder.
        follow: whether a link at `target` is followed and stays, since the user named it. Any other link may have been
            put there by somebody else: it counts as what is there.

    Raises:
        OutputError: the system cannot write there, or something is there that must stay.
    """
    place = real(target) if follow else real(target.parent) / target.name
    with _staged(target, [place], swap.journal_beside(place), replace, folder) as (part,):
        yield part


@contextmanager
def staged_in(folder: Path, files: Sequence[Path]) -> Iterator[list[Path]]:
    """New files beside files of a folder to write to. They take their places together when all went well.

    Args:
        folder: how errors call all of it.
        files: what is replaced; links are followed, and stay.

    Raises:
        OutputError: the system cannot write there.
    """
    with _staged(folder, [real(file) for file in files], swap.journal_in(real(folder)), True, False) as parts:
        yield parts


@contextmanager
def _staged(name: Path, targets: Sequence[Path], journal: Path, replace: bool, folder: bool) -> Iterator[list[Path]]:
    parts: list[Part] = []
    try:
        with held_back():
            for target in targets:
                parts.append(Part(target, folder))
        yield [part.path for part in parts]
        for part in parts:
            part.complete()
        if len(parts) > 1 or (folder and replace and targets[0].is_dir()):
            swap.swap(name, [Move(part.target, part.token) for part in parts], journal)
        else:
            _place(name, parts[0], replace)
    except OSError as error:
        raise OutputError(f"{name} cannot be written: {error.strerror or error}; nothing was changed.") from error
    finally:
        with held_back():
            for part in parts:
                part.discard()


def _place(name: Path, part: Part, replace: bool) -> None:
    """One step of the system, and its name on the disk."""
    with held_back():
        try:
            part.place(replace)
        except FileExistsError as error:
            raise OutputError(f"{name} was made by another program meanwhile; use --force to replace it.") from error
        try:
            flush(part.target.parent)
        except OSError as error:
            raise OutputError(f"{name} is written, but its folder cannot be flushed: {error.strerror}.") from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only run that writes into a folder. Raises OutputError if there is another one."""
    lock = Lock(real(folder))
    try:
        if lock.held is False:
            raise OutputError(f"another run is writing to {folder}; wait until it ends, or choose another folder.")
        yield
    finally:
        lock.release()
