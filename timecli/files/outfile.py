"""A file that is filled from front to back, while the disk already writes what is there."""

from __future__ import annotations

import errno
import os
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from timecli.errors import CheckpointError

BLOCK, PAGE, WINDOW = 16 * 2**20, 4096, 256 * 2**20

NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""How file systems say that they cannot."""


def no_link(path: str, flags: int) -> int:
    """An opener of files, as `open` takes it, for those that nobody has named: a link is an OSError."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o666)


def sync(descriptor: int) -> None:
    """Have a file on the disk, where the file system can say when it is."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


class OutFile(FileIO):
    """A new file. When its `with` block ends without an error, all of it is on the disk.

    A second thread flushes every 256 MiB as they are complete, so that the flush at the end has little to wait for.
    """

    def __init__(self, path: Path) -> None:
        """Create or truncate `path`, which is no link."""
        super().__init__(path, "wb", opener=no_link)
        self._disk = ThreadPoolExecutor(1)
        self._flushes: list[Future[None]] = []

    def put(self, content: bytes | memoryview) -> None:
        """Append bytes."""
        rest = memoryview(content)
        while rest:
            rest = rest[self.write(rest) :]
        self._grown()

    def take(self, source: BinaryIO, start: int, stop: int) -> None:
        """Append a range of another file's bytes, copied by the kernel where it can.

        Raises:
            CheckpointError: the source cannot be read, or ends before `stop`.
        """
        while start < stop:
            # Whole pages after a first partial one: only those can be shared between files.
            count = min(PAGE - start % PAGE if start % PAGE else BLOCK, stop - start)
            start += self._take_in_kernel(source, start, count) or self._take_in_memory(source, start, count)
            self._grown()

    def _take_in_kernel(self, source: BinaryIO, start: int, count: int) -> int:
        """Bytes copied; 0 where the system or the file system cannot, or meets an error that it does not explain."""
        try:
            return os.copy_file_range(source.fileno(), self.fileno(), count, offset_src=start)
        except (AttributeError, OSError):
            return 0

    def _take_in_memory(self, source: BinaryIO, start: int, count: int) -> int:
        try:
            source.seek(start)
            block = source.read(count)
        except OSError as error:
            raise CheckpointError(f"{source.name} cannot be read: {error.strerror}; copy it again.") from error
        if not block:
            raise CheckpointError(f"{source.name} became shorter while it was read; wait until it is complete.")
        self.put(block)
        return len(block)

    def _grown(self) -> None:
        if self.tell() >= (len(self._flushes) + 1) * WINDOW:
            self._flushes.append(self._disk.submit(sync, self.fileno()))

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Wait for the disk, and say so if it failed: an error is reported to one flush only."""
        self._disk.shutdown(cancel_futures=kind is not None)
        try:
            if kind is None:
                for flush in self._flushes:
                    flush.result()
                sync(self.fileno())
        finally:
            self.close()
