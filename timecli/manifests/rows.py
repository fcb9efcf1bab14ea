"""The prompts of a manifest that are looked at, edit by edit, forecast or drawn."""

from __future__ import annotations

from dataclasses import dataclass

from timecli.manifests.manifest import Manifest

KINDS = {"positive": "positives", "negative": "negatives", "explicit": "explicit"}
"""What a test prompt is, and where an edit has it."""
FOLLOW = ("source", "positive")
"""Kinds that should show the destination; the others should stay as they are."""


@dataclass(frozen=True)
class Row:
    """A prompt to look at; a sample has no destination."""

    kind: str
    prompt: str
    destination: str | None

    @property
    def oracle(self) -> str | None:
        """What the unedited model is asked for instead, where the destination is wanted (Orgad et al. 2023, §5.5)."""
        return self.destination if self.kind in FOLLOW else None


def rows(manifest: Manifest) -> list[Row]:
    """Every prompt of the manifest, edit by edit, and its samples."""
    found = []
    for edit in manifest.edits:
        found.append(Row("source", edit.source, edit.destination))
        for kind, where in KINDS.items():
            found += [Row(kind, test.prompt, test.destination) for test in getattr(edit, where)]
    return [*found, *(Row("sample", prompt, None) for prompt in manifest.verify.prompts)]
