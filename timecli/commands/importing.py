"""`timecli import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from timecli.commands import options, terminal
from timecli.commands.groups import Telling, grouped
from timecli.commands.outputs import require_folder
from timecli.shown import amount

Kind = Annotated[str, typer.Argument(metavar="KIND", help="timed or gender.")]
Table = Annotated[Path, typer.Argument(metavar="FILE", help="CSV file.")]
Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the manifests, one for every row.")]


@grouped
def import_(kind: Kind, file: Table, output: Folder, force: options.Force = False, *, telling: Telling) -> None:
    """Turn a published TIMED file of edits (timed) or professions (gender) into manifests."""
    from timecli.files.targets import require_apart, require_no_link, require_replaceable
    from timecli.files.writing import write_bytes
    from timecli.manifests import timed

    require_folder(output)
    found = timed.read(file, options.choice(kind, "KIND", timed.COLUMNS))
    targets = [output / f"{row.name}.toml" for row in found]
    require_apart(targets, [file])
    for target in targets:
        require_no_link(target)
        require_replaceable(target, force)
    output.mkdir(parents=True, exist_ok=True)
    for target, row in zip(targets, found, strict=True):
        write_bytes(target, row.text.encode(), force)
        for sentence in row.left_out:
            terminal.complain(sentence)
    if telling.as_json:
        return terminal.print_json("import", {"written": list(map(str, targets))})
    terminal.say(f"wrote {amount(len(found), 'manifest')} to {output}")
