"""TOML text to a frozen `Manifest`. Every error names the file and the field; unknown keys are refused."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli

from timecli.errors import ManifestError, one_line
from timecli.files import foreign
from timecli.manifests import kinds
from timecli.manifests.keys import AUGMENTATIONS, WORDINGS, Balance, Edit, Preserve, Probe, Solve, Verify
from timecli.manifests.reading import key, read_table, table, table_schema

BEGIN = "`timecli init` writes a manifest to begin with"


@dataclass(frozen=True)
class Manifest:
    """A whole edit file."""

    name: str = key(kinds.NAME, "Name of the edit, as files and reports carry it.")
    edits: tuple[Edit, ...] = key(
        kinds.list_of(table(Edit), form="[[edit]], in two brackets"), "What is assumed and what shall be.", name="edit"
    )
    description: str = key(kinds.TEXT, "For readers.", "")
    model: str = key(kinds.TEXT, "The model that the edit was written for, for readers; any model is accepted.", "")
    solve: Solve = key(table(Solve), "How the edit is computed.", Solve())
    preserve: Preserve = key(table(Preserve), "What should stay.", Preserve())
    verify: Verify = key(table(Verify), "What `timecli verify` draws and demands.", Verify())
    balance: Balance | None = key(table(Balance), "Two descriptions, and how often the first should be drawn.", None)
    text: str = ""
    """The TOML text itself, as it travels with the edited model."""
    folder: Path = field(default=Path(), compare=False)
    """Where the files that it names are looked for."""
    parts: tuple[Manifest, ...] = ()
    """Of a joint edit of several manifests, these."""

    def of(self, edit: Edit) -> Manifest:
        """The manifest that one of the edits comes from."""
        return next((part for part in self.parts if edit in part.edits), self)

    def lam(self, edit: Edit) -> float:
        """λ of one of the edits."""
        return self.of(edit).solve.lam if edit.lam is None else edit.lam

    def strength(self, edit: Edit) -> float:
        """How far the source of one of the edits should go."""
        return self.of(edit).solve.strength if edit.strength is None else edit.strength

    @property
    def templates(self) -> tuple[str, ...]:
        """The wordings that every pair and every preserved prompt enters the solve with, beside its own."""
        if self.solve.augment is not None:
            return self.solve.augment
        return WORDINGS if self.preserve.world else AUGMENTATIONS


OWN = {"lambda": "lam", "strength": "strength"}
"""Numbers in `[solve]` that an edit can have for itself, by their fields."""


def with_value(manifest: Manifest, key: str, value: float) -> Manifest:
    """The manifest with another "lambda", "strength" or "everyday_weight" for all its edits."""
    name = OWN.get(key, key)
    changed: dict[str, Any] = {name: value}
    if key not in OWN:
        return replace(manifest, preserve=replace(manifest.preserve, **changed))
    unset: dict[str, Any] = {name: None}
    edits = tuple(replace(edit, **unset) for edit in manifest.edits)
    return replace(manifest, solve=replace(manifest.solve, **changed), edits=edits)


def with_lambda(manifest: Manifest, lam: float) -> Manifest:
    """The manifest with another λ for all its edits."""
    return with_value(manifest, "lambda", lam)


def with_strength(manifest: Manifest, strength: float) -> Manifest:
    """The manifest with another strength for all its edits."""
    return with_value(manifest, "strength", strength)


def folded(prompt: str) -> str:
    """A prompt without the case and the blanks that its tokens do not depend on."""
    return " ".join(prompt.lower().split())


def same(one: str, other: str) -> bool:
    """Whether two prompts are the same words."""
    return folded(one) == folded(other)


def _check_edits(manifest: Manifest, path: str) -> None:
    seen: dict[str, int] = {}
    for i, edit in enumerate(manifest.edits):
        where = f"{path}: edit[{i}]"
        if same(edit.source, edit.destination):
            raise ManifestError(
                f"{where}: source and destination are both {edit.source!r}; name the attribute in the destination."
            )
        for kind in ("positives", "negatives", "explicit"):
            for j, test in enumerate(getattr(edit, kind)):
                if same(test.prompt, test.destination):
                    raise ManifestError(
                        f"{where}.{kind}[{j}]: prompt and destination are both {test.prompt!r}; they must differ."
                    )
        source = folded(edit.source)
        if source in seen:
            raise ManifestError(
                f"{where}.source {edit.source!r} is already the source of edit[{seen[source]}]; keep one of them."
            )
        seen[source] = i


def _check_thresholds(manifest: Manifest, path: str) -> None:
    for metric, kind in (("generality", "positives"), ("specificity", "negatives"), ("explicit", "explicit")):
        if getattr(manifest.verify, metric) is not None and not any(getattr(edit, kind) for edit in manifest.edits):
            raise ManifestError(f"{path}: verify.{metric} is set and no edit has {kind} to measure it; add some.")


def parse(text: str, path: str = "manifest") -> Manifest:
    """Read TOML text. `path` is how errors call it.

    Raises:
        ManifestError: not TOML, an unknown or missing key, a value out of range, or edits that contradict each other.
    """
    try:
        found = tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError) as error:
        form = "; write every edit as [[edit]], in two brackets" if "('edit',) twice" in str(error) else ""
        raise ManifestError(f"{path} is not valid TOML: {one_line(error)}{form or _hint(text, path)}.") from error
    except ValueError as error:
        raise ManifestError(f"{path} has a number of thousands of digits; no key takes one.") from error
    if not found:
        raise ManifestError(f"{path} is empty; {BEGIN}.")
    manifest = read_table(Manifest, found, f"{path}: ")
    _check_edits(manifest, path)
    _check_thresholds(manifest, path)
    return replace(manifest, text=text)


def _hint(text: str, path: str) -> str:
    """What may help where a text is not TOML."""
    if path.lower().endswith(".csv"):
        return f"; it is a CSV file: {BEGIN}, and `timecli import` turns TIMED's CSV files into manifests"
    if text.lstrip().startswith("{"):
        return f"; it looks like JSON, and a manifest is TOML: {BEGIN}"
    return '; write straight quotes (") in place of “ and ”' if {*"“”„"} & {*text} else f"; {BEGIN}"


def load(path: Path) -> Manifest:
    """Read a manifest file.

    Raises:
        ManifestError: as `parse`, or the file is missing, another kind of file, or not UTF-8.
    """
    if os.path.isdir(path):
        raise ManifestError(f"{path} is a folder, not a manifest; give MANIFEST first, then MODEL.")
    content = foreign.read(path, ManifestError)
    if foreign.is_delta(content):
        raise ManifestError(f"{path} is a delta, not a manifest; `timecli apply` and `timecli export` take deltas.")
    if foreign.is_model(content):
        raise ManifestError(f"{path} is a model, not a manifest; give MANIFEST first, then MODEL.")
    read = parse(foreign.decoded(content, path, "a manifest", ManifestError), str(path))
    return replace(read, folder=Path(path).parent)


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a manifest."""
    tables = {cls.__name__: table_schema(cls) for cls in (Probe, Edit, Solve, Preserve, Verify, Balance)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "timecli edit manifest",
        **table_schema(Manifest),
        "$defs": tables,
    }
