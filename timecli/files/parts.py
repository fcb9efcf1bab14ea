"""What is written beside its target before it takes the target's place: under a random name, and locked.

The lock goes when the process does, however it ends. So a part whose lock is free is what a killed run left, and the
next run for the same target removes it; what a running one writes is never touched.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from timecli.files.outfile import NO_SYNC

try:
    import fcntl
except ImportError:  # Windows has no such locks; stale parts stay there
    fcntl = None  # type: ignore[assignment]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TOKEN = re.compile("[0-9a-f]{16}")
SHOWN = 50
"""Letters of a target's name in those of its parts: with them, a name stays below the 255 bytes of file systems."""
LACKING = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""How file systems without permissions say so when they are to change some."""
NO_FLUSH = (*NO_SYNC, errno.EACCES)
"""How systems say that a folder cannot be flushed, or not be opened for it."""


def real(path: Path) -> Path:
    """Where a path leads, links followed. What it leads to may be missing."""
    return Path(os.path.realpath(path))


def beside(target: Path, token: str, end: str) -> Path:
    """A hidden name in the target's folder."""
    return target.parent / f".{target.name[:SHOWN]}.{token}.{end}"


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there; what is in a read-only folder, too."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path):
            set_mode(Path(folder), 0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def set_mode(path: Path, bits: int) -> None:
    """Give a file or folder of ours permissions, where the file system has some."""
    try:
        os.chmod(path, bits)
    except OSError as error:
        if error.errno not in LACKING:
            raise


def flush(folder: Path) -> None:
    """Have a folder's names on the disk, where the system can do that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FLUSH:
            raise


@contextmanager
def held_back() -> Iterator[None]:
    """Let no SIGINT and no SIGTERM in, not even a second one, until the block ends."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals come to the main thread only
        return
    came: list[int] = []
    known = {number: signal.getsignal(number) for number in SIGNALS}
    handlers = {number: handler for number, handler in known.items() if handler is not None}
    try:
        for number in handlers:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


class Lock:
    """The lock of a file or folder, until `release` or the end of the process.

    Attributes:
        held: whether it is ours. False if another process has it, or what was locked is no longer there under its name.
            None where the system or the file system has no locks.
    """

    def __init__(self, path: Path, wait: bool = False) -> None:
        """Try to take it, or wait for it. Raises OSError when `path` cannot be opened."""
        self.held: bool | None = None
        self._descriptor: int | None = None
        if fcntl is None:
            return
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            self.held = False
        except OSError:
            self.held = None
        else:
            self.held = os.path.lexists(path) and os.path.samestat(path.lstat(), os.fstat(self._descriptor))

    def release(self) -> None:
        """Let it go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Part:
    """A file or a folder that is written beside its target.

    Attributes:
        target: what it is for, no link.
        token: what makes its name one of its own.
    """

    def __init__(self, target: Path, folder: bool = False) -> None:
        """Make it, empty. It has the permissions of what it will replace; otherwise the umask decides."""
        self.target, self.folder = target, folder
        there = os.path.lexists(target) and not target.is_symlink()
        self._bits = stat.S_IMODE(target.stat().st_mode) if there else None
        sweep(target)
        while not self._made():
            pass
        if self._bits is not None:
            try:
                set_mode(self.path, self._bits | (0o700 if folder else 0o600))
            except OSError:
                self.discard()
                raise

    def _made(self) -> bool:
        """Whether it was made and locked before another run took it for a stale one."""
        self.token = secrets.token_hex(8)
        self.path.mkdir() if self.folder else self.path.touch(exist_ok=False)
        try:
            self._lock = Lock(self.path)
        except FileNotFoundError:
            return False
        except OSError:
            remove(self.path)
            raise
        if self._lock.held is False:
            self._lock.release()
        return self._lock.held is not False

    @property
    def path(self) -> Path:
        """Where to write."""
        return beside(self.target, self.token, "part")

    def complete(self) -> None:
        """Call it when all files are written and flushed: so are the folders then."""
        for folder, _, _ in os.walk(self.path):  # none in a file
            flush(Path(folder))
        if self._bits is not None:
            set_mode(self.path, self._bits)

    def place(self, replace: bool) -> None:
        """Move it to its target.

        Raises:
            FileExistsError: something is there and must not be replaced.
        """
        if replace and not self.folder:
            os.replace(self.path, self.target)
        elif self.folder or not self._linked():
            if os.path.lexists(self.target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.rename(self.path, self.target)

    def _linked(self) -> bool:
        """Whether the file system has links, which are what never replaces; the part has its target's name then."""
        try:
            os.link(self.path, self.target)
        except FileExistsError:
            raise
        except (OSError, AttributeError):
            return False
        with suppress(OSError):
            os.unlink(self.path)
        return True

    def discard(self) -> None:
        """Remove what has not been moved to its target, and let the lock go."""
        with suppress(OSError):
            if not beside(self.target, self.token, "old").exists():  # else a swap is half done and needs it
                remove(self.path)
        self._lock.release()


def sweep(target: Path) -> None:
    """Remove the parts for a target that killed runs have left."""
    pattern = re.compile(rf"\.{re.escape(target.name[:SHOWN])}\.({TOKEN.pattern})\.part")
    with suppress(PermissionError):  # a folder in which one may write but not look around
        for entry in list(os.scandir(target.parent)):
            found = pattern.fullmatch(entry.name)
            if found and not beside(target, found[1], "old").exists():
                _remove_stale(Path(entry.path))


def _remove_stale(part: Path) -> None:
    with suppress(OSError):  # somebody else's, or gone by now
        lock = Lock(part)
        try:
            if lock.held:
                remove(part)
        finally:
            lock.release()
