"""The JSON Schema beside manifests, from which editors complete keys and say what they mean."""

from __future__ import annotations

import json
import os
from pathlib import Path

from timecli.files.writing import write_bytes
from timecli.manifests.manifest import schema

NAME = "manifest.schema.json"
UP = 3
"""How many folders above a manifest's own are looked through."""


def text() -> str:
    """The schema as a file."""
    return json.dumps(schema(), indent=2) + "\n"


def place(manifest: Path) -> Path:
    """Where the schema of a manifest is, in its folder or above it, or would be, which is beside it."""
    folder = Path(os.path.abspath(manifest)).parent
    found = (one / NAME for one in (folder, *list(folder.parents)[:UP]) if (one / NAME).is_file())
    return next(found, folder / NAME)


def line(manifest: Path) -> str:
    """The comment by which editors (Taplo, Even Better TOML) find the schema, as a path from the manifest."""
    folder = Path(os.path.abspath(manifest)).parent
    return f"#:schema {Path(os.path.relpath(place(manifest), folder)).as_posix()}"


def put(manifest: Path) -> list[Path]:
    """Write the schema beside a manifest that has none. Returns what was written."""
    target = place(manifest)
    if os.path.lexists(target):
        return []
    write_bytes(target, text().encode(), replace=False)
    return [manifest.parent / NAME]
