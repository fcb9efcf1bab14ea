"""`timecli schema`."""

from __future__ import annotations

from timecli.commands import terminal


def schema() -> None:
    """Print the JSON Schema of manifests, for editors."""
    from timecli.manifests import manifest

    terminal.print_data(manifest.schema())
