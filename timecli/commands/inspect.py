"""`timecli inspect`."""

from __future__ import annotations

from timecli.commands import options, terminal
from timecli.commands.about import print_about, print_manifests
from timecli.commands.groups import Telling, grouped
from timecli.commands.shared import open_model, settle
from timecli.errors import OutputError

RECORD = {True: "true of the tensors", False: "not true of the tensors", None: "says nothing of the tensors"}
"""Whether a model is what its record tells."""


@grouped
def inspect(file: options.AnyFile, textconv: options.Textconv = False, *, telling: Telling) -> None:
    """Say what FILE is: form, architecture, dtypes, edits that it carries."""
    from timecli.editing import delta as deltas
    from timecli.files.safefile import open_file
    from timecli.models import carried
    from timecli.models import checkpoint as files

    if textconv and telling.as_json:
        raise OutputError("--textconv and --json are two forms of output; choose one.")
    settle(file)
    header = None if file.is_dir() else open_file(file)

    from timecli.shipping import export as exporting

    if header and deltas.is_delta(header):
        about = deltas.describe(deltas.load_delta(file))
        edits = [about]
    elif header and exporting.is_adapter(header):
        about = exporting.describe(header)
        edits = about["edits"]
    else:
        checkpoint = open_model(file, needs="nothing")
        about = files.describe(checkpoint)
        edits = about["edits"]
        if edits and not textconv:  # a look at the tensors, which `git diff` has no time for
            held = carried.holds(checkpoint)
            about["record"] = RECORD[held]
            if held is False:
                terminal.warn(f"{carried.doubt(checkpoint)}.")
    if textconv:
        print_manifests(edits)
    elif telling.as_json:
        terminal.print_json("inspect", about)
    else:
        print_about(about)
