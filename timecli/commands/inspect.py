"""`timecli inspect`."""

from __future__ import annotations

from timecli.commands import options, terminal
from timecli.commands.about import print_about, print_manifests
from timecli.commands.groups import Telling, grouped
from timecli.commands.shared import open_model, settle
from timecli.errors import OutputError


@grouped
def inspect(file: options.AnyFile, textconv: options.Textconv = False, *, telling: Telling) -> None:
    """Say what FILE is: form, architecture, dtypes, edits that it carries."""
    from timecli.editing import delta as deltas
    from timecli.files.safefile import open_file
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
        about = files.describe(open_model(file, needs="nothing"))
        edits = about["edits"]
    if textconv:
        print_manifests(edits)
    elif telling.as_json:
        terminal.print_json("inspect", about)
    else:
        print_about(about)
