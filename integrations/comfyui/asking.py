"""What a person types into the node, as a manifest."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from timecli.errors import ManifestError
from timecli.manifests.manifest import Manifest, load, parse

ARROW, STAYS = "->", "="
_STRENGTH = re.compile(r"\s:\s*(\d+(?:\.\d*)?|\.\d+)$")


def read(text: str, clip_skip: int = 1) -> Manifest:
    """The manifest that a text is, or names.

    Args:
        text: a path that ends in `.toml`; or lines `SOURCE -> DESTINATION`, each perhaps with ` : STRENGTH` behind it,
            `= PROMPT` for what should stay, and remarks that begin with #.
        clip_skip: the layer that the CLIP gives, as a manifest counts.

    Raises:
        ManifestError: the text says nothing, a line is neither, or the manifest has a mistake.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if len(lines) == 1 and is_path(text):
        return load(Path(os.path.expanduser(lines[0][1])))
    pairs, kept = [], []
    for number, line in lines:
        if line.startswith(STAYS):
            kept.append(line.removeprefix(STAYS).strip())
        else:
            pairs.append(_pair(number, line))
    if not pairs:
        raise ManifestError("the text has no edit; write a line such as: a rose -> a blue rose")
    return parse(_written(pairs, kept, clip_skip), "the text")


def is_path(text: str) -> bool:
    """Whether a text is the path of a manifest."""
    return text.strip().endswith(".toml") and ARROW not in text and "\n" not in text.strip()


def _pair(number: int, line: str) -> tuple[str, str, str | None]:
    """Source, destination and strength of a line."""
    strength = _STRENGTH.search(line)
    body = line[: strength.start()] if strength else line
    parts = [part.strip() for part in body.split(ARROW)]
    if len(parts) != 2 or not all(parts):
        raise ManifestError(
            f"line {number} is {line[:100]!r}; write SOURCE -> DESTINATION, or = PROMPT for what should stay."
        )
    return parts[0], parts[1], strength[1] if strength else None


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
