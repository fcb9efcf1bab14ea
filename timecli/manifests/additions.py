"""Additions to a manifest's text: pairs and prompts to preserve, written where a person would; comments stay."""

from __future__ import annotations

from collections.abc import Sequence

import tomlkit
from tomlkit.items import AoT

from timecli.errors import ManifestError, explained
from timecli.manifests.manifest import Manifest, parse


def added(manifest: Manifest, pairs: Sequence[tuple[str, str]], preserved: Sequence[str]) -> str:
    """The manifest's text with more edits and more prompts to preserve.

    Raises:
        ManifestError: it is written in a way in which that cannot be done.
    """
    way_out = "give it [[edit]] tables and a [preserve] table"
    with explained(f"additions cannot be written into {manifest.name}", way_out, ManifestError):
        document = tomlkit.parse(manifest.text.replace("\r\n", "\n").rstrip("\n") + "\n")
        if not isinstance(document["edit"], AoT):
            raise ValueError("its edits stand in one list")
        for source, destination in pairs:
            last = document["edit"][-1]
            if not tomlkit.dumps(last).endswith("\n\n"):
                last.add(tomlkit.nl())
            table = tomlkit.table()
            table["source"], table["destination"] = source, destination
            table.add(tomlkit.nl())
            document["edit"].append(table)
        if preserved:
            kept = document.setdefault("preserve", tomlkit.table()).setdefault("prompts", tomlkit.array())
            kept.extend(preserved)
            kept.multiline(True)
        text = tomlkit.dumps(document).rstrip("\n") + "\n"
        found = parse(text, f"{manifest.name} with additions")
    if found.edits[: len(manifest.edits)] != manifest.edits or len(found.edits) != len(manifest.edits) + len(pairs):
        raise ManifestError(f"additions cannot be written into {manifest.name}; {way_out}.")
    return text.replace("\n", "\r\n") if "\r\n" in manifest.text else text
