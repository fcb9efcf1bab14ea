"""`timecli import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from timecli import options, terminal
from timecli.errors import OutputError

Kind = Annotated[str, typer.Argument(metavar="KIND", help="timed or gender.")]
Table = Annotated[Path, typer.Argument(metavar="FILE", help="CSV file.")]
Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the manifests, one for every row.")]


def import_(kind: Kind, file: Table, output: Folder, force: options.Force = False) -> None:
    """Turn a published TIMED file of edits (timed) or professions (gender) into manifests."""
    from timecli import timed
    from timecli.writing import write_bytes

    found = timed.read(file, options.choice(kind, "KIND", timed.COLUMNS))
    targets = [output / f"{row.name}.toml" for row in found]
    if not force and (existing := [target for target in targets if target.exists()]):
        raise OutputError(f"{existing[0]} already exists; use --force to replace it.")
    output.mkdir(parents=True, exist_ok=True)
    for target, row in zip(targets, found, strict=True):
        write_bytes(target, row.text.encode())
        for sentence in row.left_out:
            terminal.complain(sentence)
    terminal.say(f"wrote {len(found)} manifests to {output}")
