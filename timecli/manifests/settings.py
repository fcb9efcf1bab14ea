"""Other numbers in a manifest's text, written where a person would; comments and order stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import tomlkit
from tomlkit.items import Comment, Table, Trivia

from timecli.errors import ManifestError, explained
from timecli.manifests.manifest import OWN, Manifest, parse, with_value

HOME = {"lambda": "solve", "strength": "solve", "everyday_weight": "preserve"}
"""Numbers that hold for all edits, and their tables."""


def written(manifest: Manifest, values: Mapping[str, float]) -> str:
    """The manifest's text with other values for all its edits; a line that goes leaves its comment.

    Args:
        manifest: as it was read.
        values: by the keys of `HOME`.

    Raises:
        ManifestError: it is written in a way in which that cannot be done.
    """
    way_out, keys = "give it [solve], [preserve] and [[edit]] tables", " and ".join(values)
    with explained(f"{keys} cannot be written into {manifest.name}", way_out, ManifestError):
        document = tomlkit.parse(manifest.text)
        for key, value in values.items():
            document.setdefault(HOME[key], tomlkit.table())[key] = value
            for pair in document["edit"] if key in OWN else ():
                _remove(pair, key)
        text = tomlkit.dumps(document)
    wanted = replace(manifest, text=text)
    for key, value in values.items():
        wanted = with_value(wanted, key, value)
    if parse(text, manifest.name) != wanted:
        raise ManifestError(f"{keys} cannot be written into {manifest.name}; {way_out}.")
    return text


def _remove(pair: Table, key: str) -> None:
    """Take a key out of an edit. Its comment stays, on a line of its own."""
    if key not in pair:
        return
    comment = pair[key].trivia.comment
    if not comment:
        del pair[key]
        return
    body = pair.value.body
    place = next(i for i, (name, _) in enumerate(body) if name is not None and name.key == key)
    body[place] = (None, Comment(Trivia("", "", comment, "\n")))
