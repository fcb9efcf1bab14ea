"""The one way in which a command writes into a manifest of the user's: what somebody saved meanwhile is never lost."""

from __future__ import annotations

from pathlib import Path

from timecli.errors import OutputError, TimecliError
from timecli.files import foreign
from timecli.files.outfile import OutFile
from timecli.files.staging import staged
from timecli.manifests.manifest import Manifest


def rewrite(path: Path, manifest: Manifest, text: str, way_out: str) -> None:
    """Give a manifest's file another text, if it still has the one that was read.

    Args:
        path: the file; a link is followed, and stays.
        manifest: as it was read from there.
        text: what it shall be.
        way_out: what to do where the file has changed.

    Raises:
        OutputError: it has changed, or cannot be written; it stays as it is.
    """
    with staged(path, follow=True) as part:
        with OutFile(part) as file:
            file.put(text.encode())
        if not _unchanged(path, manifest):  # the last step before the new text takes its place
            raise OutputError(f"{path} changed meanwhile and stays; {way_out}.")


def _unchanged(path: Path, manifest: Manifest) -> bool:
    try:
        return foreign.read(path, OutputError).removeprefix(b"\xef\xbb\xbf") == manifest.text.encode()
    except TimecliError:
        return False
