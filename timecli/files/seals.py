"""What a run leaves for the next one is sealed with a key of the user's: nobody else can make what passes for it.

Folders of results are copied, shared and kept in git, so that what lies in one may be anybody's. A seal is an HMAC; the
key never leaves the user's own folder.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from timecli.errors import OutputError
from timecli.files.outfile import OutFile
from timecli.files.staging import staged

NAME, SIZE = "key", 32
"""The key's file, and how many bytes it and a seal have."""


@dataclass(frozen=True)
class Sealer:
    """Makes and checks seals.

    Attributes:
        key: `SIZE` random bytes.
        lasts: whether later runs have the same key.
    """

    key: bytes = field(repr=False)
    lasts: bool

    def seal(self, what: str, content: bytes) -> bytes:
        """The seal of some content; `what` says of which thing it is the content, so that it is no other's."""
        named = hashlib.sha256(what.encode()).digest()
        return hmac.digest(self.key, named + content, "sha256")

    def holds(self, what: str, content: bytes, seal: bytes) -> bool:
        """Whether a seal is ours, of this content, for this thing."""
        return hmac.compare_digest(self.seal(what, content), seal)


@cache
def sealer(folder: Path) -> Sealer:
    """That of the user whose folder this is; one for this process alone where no key can be kept to oneself there."""
    path = folder / NAME
    if make_private(folder):
        for _ in range(2):
            if key := _read(path):
                return Sealer(key, True)
            with suppress(OutputError, OSError):  # another run may have made it meanwhile
                _make(path)
    return Sealer(secrets.token_bytes(SIZE), False)


def _make(path: Path) -> None:
    """Put a key there, in place of what is none and whose permissions are none for a key."""
    path.unlink(missing_ok=True)
    with staged(path, replace=False) as part:
        part.chmod(0o600)
        with OutFile(part) as file:
            file.put(secrets.token_bytes(SIZE))


def _read(path: Path) -> bytes | None:
    """The key that is there; None for none, and for what others could read or have put there."""
    try:
        if not _private(path.lstat(), stat.S_ISREG, 0o077):
            return None
        key = path.read_bytes()
    except OSError:
        return None
    return key if len(key) == SIZE else None


def make_private(folder: Path) -> bool:
    """Make a folder for the user alone, if it is not there. Whether it is one into which nobody else can put things."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _private(folder.lstat(), stat.S_ISDIR, 0o022)
    except OSError:
        return False


def _private(status: os.stat_result, kind: Callable[[int], bool], others: int) -> bool:
    """Whether it is of this kind, ours, and others have none of these permissions."""
    if not hasattr(os, "geteuid"):
        return kind(status.st_mode)  # Windows: a profile's folders are the user's own
    return kind(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & others
