"""What a person types into the node, as a manifest."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path

from timecli.errors import ManifestError, TimecliError
from timecli.manifests.manifest import Manifest, load, parse

ARROW, STAYS = "->", "="
_LONGER = re.compile(r"[-<=]->|->[->]")
"""Arrows of which a part would be read as text."""
_BEHIND = re.compile(r"(?:\s:\s*|:\s+|(?<!\d):)([-+]?[\d.,]+(?:e-?\d+)?%?)$")
"""A number behind a colon, in whatever form, but for that of "16:9"."""
_STRENGTH = re.compile(r"\d+(?:\.\d*)?|\.\d+")


def read(text: str, clip_skip: int = 1) -> Manifest:
    """The manifest that a text is, or names.

    Args:
        text: a path that ends in `.toml`; or lines `SOURCE -> DESTINATION`, each perhaps with `: STRENGTH` behind it,
            `= PROMPT` for what should stay. Beside both, remarks that begin with #.
        clip_skip: the layer that the CLIP gives, as a manifest counts.

    Raises:
        ManifestError: the text says nothing, a line is neither, or the manifest has a mistake.
    """
    if (path := manifest_path(text)) is not None:
        return load(path)
    pairs, kept = [], []
    for number, line in _lines(text):
        if line.startswith(STAYS):
            kept.append(line.removeprefix(STAYS).strip())
        else:
            pairs.append(_pair(number, line))
    if not pairs:
        raise ManifestError("the text has no edit; write a line such as: a rose -> a blue rose")
    return parse(_written(pairs, kept, clip_skip), "the text")


def _lines(text: str) -> list[tuple[int, str]]:
    """Lines that are no remarks, with their numbers."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def manifest_path(text: str) -> Path | None:
    """Which manifest a text names, in quotes or without, if it is a path and no edit."""
    lines = [line.strip("\"'") for _, line in _lines(text)]
    if len(lines) != 1 or not lines[0].lower().endswith(".toml") or ARROW in lines[0]:
        return None
    return Path(os.path.abspath(os.path.expanduser(lines[0])))


def written(text: str) -> str:
    """When the files that a text names were written: the manifest, and its list of everyday prompts."""
    times = []
    with suppress(TimecliError, OSError):  # of what cannot be read the node says so itself
        if path := manifest_path(text):
            everyday = load(path).preserve.everyday
            files = [path, path.parent / everyday] if isinstance(everyday, str) else [path]
            times = [file.stat().st_mtime_ns for file in files]
    return str(times)


def _pair(number: int, line: str) -> tuple[str, str, str | None]:
    """Source, destination and strength of a line."""
    behind = _BEHIND.search(line)
    body = line[: behind.start()] if behind else line
    parts = [part.strip() for part in body.split(ARROW)]
    if len(parts) != 2 or not all(parts) or _LONGER.search(body):
        raise ManifestError(
            f"line {number} is {line[:100]!r}; write SOURCE -> DESTINATION, or = PROMPT for what should stay."
        )
    if behind and not _STRENGTH.fullmatch(behind[1]):
        raise ManifestError(f"line {number} has {behind[1]!r} for a strength; write a number such as 0.5, not below 0.")
    return parts[0], parts[1], behind[1] if behind else None


def _written(pairs: list[tuple[str, str, str | None]], kept: list[str], clip_skip: int) -> str:
    """The manifest's text, so that what was typed can be kept under version control."""
    name = "-".join(re.findall(r"[A-Za-z0-9]+", pairs[0][1]))[:60] or "edit"
    lines = [f"name = {_quoted(name)}"]
    if clip_skip != 1:
        lines += ["", "[solve]", f"clip_skip = {clip_skip}"]
    for source, destination, strength in pairs:
        lines += ["", "[[edit]]", f"source = {_quoted(source)}", f"destination = {_quoted(destination)}"]
        lines += [f"strength = {float(strength)}"] if strength else []
    if kept:
        lines += ["", "[preserve]", f"prompts = [{', '.join(map(_quoted, kept))}]"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A text as TOML's basic string, which is JSON's, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
