"""What `timecli inspect` found, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timecli.commands import terminal

IF_ANY = (
    *("cross_attention_matrices", "cross_attention_parameters", "twins", "length", "states_of"),
    *("factors", "pooled_factors", "everyday", "everyday_weight"),
)
"""What is told where there is some: a diffusion transformer has no cross-attention, most deltas no length."""
MACHINES = ("edits", "tokens", "sketch")
"""What only `--json` gives: nobody reads it."""


def print_about(about: Mapping[str, Any]) -> None:
    """A file's description, one fact a line, a manifest as the text that it is."""
    for number, entry in enumerate((about, *about.get("edits", []))):
        if number:
            terminal.say("")
            terminal.say(f"edit {number}: {entry['name']}")
        for key, value in entry.items():
            if key == "manifest":
                terminal.say("manifest:")
                terminal.say_lines(value)
            elif key == "copies":
                for copy in value:
                    terminal.say(f"copy of the network: {copy['variant']}, {copy['form']}, {', '.join(copy['files'])}")
            elif key not in MACHINES and (value or key not in IF_ANY):
                terminal.say(f"{key}: {_plain(value)}")


def _plain(value: Any) -> str:
    """A value as people write it."""
    if value is None:  # of a delta's layers, which alone can be so
        return "all"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def print_manifests(edits: Sequence[Mapping[str, Any]]) -> None:
    """The manifests of a file's edits, or their names where a file keeps no recipe."""
    for edit in edits:
        if "manifest" in edit:
            terminal.say_lines(edit["manifest"])
        else:
            terminal.say(f"# {edit['name']}, made without its recipe")
