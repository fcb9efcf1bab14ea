"""Several things replaced together, or a folder, for which no system has one step.

A journal beside them lists what is moved: first all old ones aside, then all parts in. Whoever finds the journal of a
process that has ended takes the swap back as long as no part is in its place, and finishes it otherwise. So old and new
are never mixed under the targets' names, one of the two is always whole, and nothing is moved over what stands there.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from timecli.errors import OutputError
from timecli.files.outfile import OutFile
from timecli.files.parts import SHOWN, TOKEN, Lock, Part, beside, flush, held_back, real, remove

NAME = "timecli-swap"


@dataclass(frozen=True)
class Move:
    """A target, and the names beside it of its part and of what it replaces."""

    target: Path
    token: str

    @property
    def part(self) -> Path:
        """What will be the target; not there once it is."""
        return beside(self.target, self.token, "part")

    @property
    def old(self) -> Path:
        """What was the target; there from the swap's first step to its last."""
        return beside(self.target, self.token, "old")


def journal_beside(target: Path) -> Path:
    """Where the journal is while a folder is replaced."""
    return target.parent / f".{target.name[:SHOWN]}.{NAME}"


def journal_in(folder: Path) -> Path:
    """Where it is while files in a folder are replaced."""
    return folder / f".{NAME}"


def swap(name: Path, moves: Sequence[Move], journal: Path) -> None:
    """Replace all targets by their parts, which are complete.

    Args:
        name: how errors call all of it.
        moves: targets that exist, and their parts.
        journal: where to list them meanwhile.

    Raises:
        OSError: it cannot be done, and nothing was changed.
        OutputError: it cannot be done or not be ended, and the sentence says what that means.
    """
    while not _swapped(name, moves, journal):
        _settle(journal)  # of another run; waits as long as that lives


def _swapped(name: Path, moves: Sequence[Move], journal: Path) -> bool:
    """Whether the targets were replaced; not if there is a journal already."""
    with held_back():
        part = Part(journal)
        try:
            content = {os.path.relpath(move.target, journal.parent): move.token for move in moves}
            with OutFile(part.path) as file:
                file.put(json.dumps(content).encode())
            try:
                part.place(replace=False)
            except FileExistsError:
                return False
            _exchange(name, moves, journal)
        finally:
            part.discard()  # lets go of the journal's lock
    return True


def _exchange(name: Path, moves: Sequence[Move], journal: Path) -> None:
    try:
        flush(journal.parent)
        for move in moves:
            os.rename(move.target, move.old)
        _flush(moves)
        for move in moves:
            os.rename(move.part, move.target)
        _flush(moves)
    except OSError as error:
        try:
            _undo(moves, journal)
        except (OSError, OutputError):
            raise OutputError(
                f"{name} cannot be replaced ({error.strerror}), nor put back for now; the next timecli command for it "
                "does that."
            ) from error
        raise
    try:
        _clear(moves, journal)
    except OSError as error:
        raise OutputError(
            f"{name} is written, but what it replaced cannot be removed ({error.strerror}); the next timecli command "
            "for it tries again."
        ) from error


def _undo(moves: Sequence[Move], journal: Path) -> None:
    """Every part is taken out before the first old one comes back."""
    for move in moves:
        if _there(move.target) and not _there(move.part):
            os.rename(move.target, move.part)
    _take_back(moves)
    journal.unlink()
    flush(journal.parent)


def _take_back(moves: Sequence[Move]) -> None:
    for move in moves:
        if _there(move.old):
            _require_free(move)
            os.rename(move.old, move.target)
    _flush(moves)


def _finish(moves: Sequence[Move]) -> None:
    for move in moves:
        if _there(move.part):
            _require_free(move)
            os.rename(move.part, move.target)
    _flush(moves)


def _clear(moves: Sequence[Move], journal: Path) -> None:
    """Remove what is of no use any more, the journal last."""
    for move in moves:
        remove(move.old)
        remove(move.part)
    _flush(moves)
    journal.unlink()
    flush(journal.parent)


def _flush(moves: Sequence[Move]) -> None:
    for folder in dict.fromkeys(move.target.parent for move in moves):
        flush(folder)


def _there(path: Path) -> bool:
    return os.path.lexists(path)


def _require_free(move: Move) -> None:
    """Refuse to move anything over what somebody has put there since."""
    if _there(move.target):
        raise OutputError(
            f"a run was stopped while it replaced {move.target}, and something else is there since; move that away, or "
            f"remove {move.part} and {move.old}."
        )


def settle(path: Path) -> list[str]:
    """Settle what stopped runs have left half-way at `path`, in it, or around it.

    Returns:
        A sentence for each swap that was taken back or finished.

    Raises:
        OutputError: it cannot be settled.
    """
    place = real(path)
    journals = [journal(one) for one in (place, *place.parents) for journal in (journal_beside, journal_in)]
    return [sentence for journal in journals if _there(journal) for sentence in _settle(journal)]


def _settle(journal: Path) -> list[str]:
    try:
        _require_own(journal)
        lock = Lock(journal, wait=True)
        try:
            if lock.held is False:
                return _settle(journal)  # its process has ended the swap itself, and the next one may have begun
            moves = _read(journal)
            with held_back():
                return _settled(moves, journal)
        finally:
            lock.release()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(
            f"{journal} is of a run that was stopped, and cannot be settled: {error.strerror}."
        ) from error


def _settled(moves: Sequence[Move], journal: Path) -> list[str]:
    half = any(_there(move.part) or _there(move.old) for move in moves)
    done = any(_there(move.old) and _there(move.target) and not _there(move.part) for move in moves)
    _finish(moves) if done else _take_back(moves)
    _clear(moves, journal)
    name = moves[0].target if len(moves) == 1 else journal.parent
    if not half:
        return []
    if done:
        return [f"an earlier run was stopped while it replaced {name}; that is finished."]
    return [f"an earlier run was stopped before it replaced {name}; what was there is there again."]


def _require_own(journal: Path) -> None:
    status = journal.lstat()
    if not stat.S_ISREG(status.st_mode) or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
        raise OutputError(f"{journal} is not of a run of yours; whoever owns it must settle or remove it.")


def _read(journal: Path) -> list[Move]:
    """What a journal lists. Only targets have names in it, so that no journal can move or remove what is not a part."""
    try:
        content = json.loads(journal.read_bytes())
        moves = [Move(Path(os.path.normpath(journal.parent / name)), token) for name, token in content.items()]
        if not moves or "\0" in "".join(content) or not all(TOKEN.fullmatch(move.token) for move in moves):
            raise ValueError
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise OutputError(f"{journal} is damaged; remove it, and rename what ends in .old beside it.") from error
    return moves
