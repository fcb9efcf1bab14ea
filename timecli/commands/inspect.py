"""`timecli inspect`."""

from __future__ import annotations

from timecli import options, terminal


def inspect(file: options.AnyFile, textconv: options.Textconv = False, as_json: options.AsJson = False) -> None:
    """Say what FILE is: form, architecture, dtypes, edits that it carries."""
    from timecli import checkpoint as files
    from timecli import delta as deltas
    from timecli.safefile import open_file

    if file.is_file() and deltas.is_delta(open_file(file)):
        about = deltas.describe(deltas.load_delta(file))
        edits = [about]
    else:
        about = files.describe(files.open_checkpoint(file, needs_text=False))
        edits = about["edits"]
    if textconv:
        terminal.print_manifests(edits)
    elif as_json:
        terminal.print_json(about)
    else:
        terminal.print_about(about)
