"""`timecli schema`."""

from __future__ import annotations

from timecli import terminal


def schema() -> None:
    """Print the JSON Schema of manifests, for editors."""
    from timecli import manifest

    terminal.print_json(manifest.schema())
