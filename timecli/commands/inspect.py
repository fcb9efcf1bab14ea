"""`timecli inspect`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timecli.commands import options, terminal
from timecli.commands.about import print_about, print_manifests
from timecli.commands.groups import Telling, grouped
from timecli.commands.shared import open_model, settle
from timecli.errors import CheckpointError, OutputError, TimecliError, one_line

if TYPE_CHECKING:
    from timecli.files.safefile import SafeFile
    from timecli.models.checkpoint import Checkpoint

RECORD = {True: "true of the tensors", False: "not true of the tensors", None: "says nothing of the tensors"}
"""Whether a model, or a LoRA, is what its record tells."""


@grouped
def inspect(file: options.AnyFile, textconv: options.Textconv = False, *, telling: Telling) -> None:
    """Say what FILE is: its form, architecture and dtypes, and the edits that it carries."""
    if textconv and telling.as_json:
        raise OutputError("--textconv and --json are two forms of output; choose one.")
    if textconv:
        return _print_for_git(file)

    about, found = _described(file)

    from timecli.files.safefile import SafeFile
    from timecli.models import carried
    from timecli.shipping import export as exporting

    if found is not None and about["edits"]:
        held = exporting.holds(found) if isinstance(found, SafeFile) else carried.holds(found)
        about["record"] = RECORD[held]
        if held is False:
            said = carried.untrue(file, about["edits"]) if isinstance(found, SafeFile) else carried.doubt(found)
            terminal.warn(f"{said}.")
    if telling.as_json:
        terminal.print_json("inspect", about)
    else:
        print_about(about)


def _described(file: Path) -> tuple[dict[str, Any], Checkpoint | SafeFile | None]:
    """What a file is, as plain data, and the model or LoRA where it is one; its tensors are not looked at."""
    from timecli.editing import delta as deltas
    from timecli.files.safefile import open_file
    from timecli.models import contents

    settle(file)
    header = None if file.is_dir() else open_file(file)

    from timecli.shipping import export as exporting

    if header and deltas.is_delta(header):
        return deltas.describe(deltas.load_delta(file)), None
    if header and exporting.is_adapter(header):
        return exporting.describe(header), header
    checkpoint = open_model(file, needs="nothing")
    return contents.describe(checkpoint), checkpoint


def _print_for_git(file: Path) -> None:
    """The manifests in a file, or what it is: git ends with an error where a file has no text at all."""
    from timecli.files import foreign

    try:
        about, _ = _described(file)
        edits = about.get("edits", [about])  # a delta is one
        print_manifests(edits)
        if not edits:
            terminal.say(f"# {about['architecture']} without edits, a {about['form']}")
    except Exception as error:
        said = one_line(error).replace(
            str(file), file.name
        )  # git gives a copy in a folder whose name is another each time
        terminal.say(f"# {said}")
        with suppress(TimecliError):
            content = foreign.read(file, CheckpointError)
            if content.startswith(foreign.POINTER):
                terminal.say_lines(content[: foreign.START].decode(errors="replace").rstrip())
