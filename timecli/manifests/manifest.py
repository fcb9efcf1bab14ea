"""TOML text to a frozen `Manifest`. Every error names the file and the field; unknown keys are refused.

Each dataclass below is one TOML table. A field says how its value is read and what the JSON Schema calls it, so that
the reader, the schema and the reference cannot drift apart.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import tomli

from timecli.errors import ManifestError, one_line
from timecli.files import foreign
from timecli.manifests import kinds

AUGMENTATIONS = ("A photo of {}", "An image of {}", "A picture of {}")
"""The textual augmentations of Orgad et al. (2023), appendix C; `{}` stands for the prompt."""
WORDINGS = ("A photo of {}", "A painting of {}", "A drawing of {}", "{} in the snow", "{} on the beach")
"""Wordings in front of the prompt and behind it: with the everyday world preserved they reach more than the paper's."""

T = TypeVar("T")


def _table(cls: type, form: str = "") -> kinds.Kind:
    """A table of its own; `form` is how it is written, for whoever wrote something else."""
    return kinds.Kind(lambda value, where: _read_table(cls, value, where, form), {"$ref": f"#/$defs/{cls.__name__}"})


def _key(kind: kinds.Kind, default: Any = MISSING, name: str = "") -> Any:
    """A field read by `kind`; required without a default; `name` where the TOML key is a Python keyword."""
    metadata = {"kind": kind, "key": name}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Probe:
    """A prompt that is not edited but looked at, with the prompt that names the attribute."""

    prompt: str = _key(kinds.TEXT)
    destination: str = _key(kinds.TEXT)


PROBES = kinds.list_of(_table(Probe, '{ prompt = "…", destination = "…" }'), minimum=0)


@dataclass(frozen=True)
class Edit:
    """One assumption: what `source` shows becomes what `destination` shows."""

    source: str = _key(kinds.TEXT)
    destination: str = _key(kinds.TEXT)
    lam: float | None = _key(kinds.LAMBDA, None, "lambda")
    """λ of this pair; None takes the manifest's."""
    strength: float | None = _key(kinds.STRENGTH, None)
    """How much of this edit is wanted; None takes the manifest's."""
    positives: tuple[Probe, ...] = _key(PROBES, ())
    negatives: tuple[Probe, ...] = _key(PROBES, ())
    explicit: tuple[Probe, ...] = _key(PROBES, ())
    """Prompts that name another value of what is edited, and keep it: "a red rose", after roses became blue."""


@dataclass(frozen=True)
class Solve:
    """How the edit is computed. Without the everyday world the defaults are those of Orgad et al. (2023), §5.1."""

    lam: float = _key(kinds.LAMBDA, 0.1, "lambda")
    strength: float = _key(kinds.STRENGTH, 1.0)
    """C* becomes C + strength (C* − C); how much of every edit is wanted."""
    augment: tuple[str, ...] | None = _key(
        kinds.either("wordings", WORDINGS, kinds.either(True, AUGMENTATIONS, kinds.NO_TEMPLATES)), None
    )
    """Templates; None for `WORDINGS` where the everyday world is preserved, and `AUGMENTATIONS` where it is not."""
    matrices: tuple[str, ...] = _key(kinds.list_of(kinds.MATRIX, unique=True), ("k", "v"))
    layers: tuple[int, ...] | None = _key(kinds.either("all", None, kinds.list_of(kinds.LAYER, unique=True)), None)
    """Cross-attention layers counted from the input; None for all."""
    tokens: str = _key(kinds.TOKENS, "all")
    """"all": every position of the encoder's output, padding too; "prompt": up to the end token."""
    clip_skip: int = _key(kinds.COUNT, 1)
    """Which layer of the text encoder the model is drawn with, counted from the last as A1111 counts; 1 is the last."""


@dataclass(frozen=True)
class Preserve:
    """What should stay. It enters the inverse only."""

    prompts: tuple[str, ...] = _key(kinds.list_of(kinds.TEXT, minimum=0), ())
    weight: float = _key(kinds.LAMBDA, 1.0)
    everyday: bool | str = _key(kinds.either(True, True, kinds.either(False, False, kinds.TEXT)), True)
    """Everyday prompts, in expectation: True for the model's list or ours, a file with one prompt a line, or False."""
    everyday_weight: float = _key(kinds.LAMBDA, 0.1)
    """Relative to the edits' own prompts, all together."""


@dataclass(frozen=True)
class Verify:
    """What `timecli verify` renders beyond the edits' own prompts, and what it demands."""

    prompts: tuple[str, ...] = _key(kinds.list_of(kinds.TEXT, minimum=0), ())
    seeds: int = _key(kinds.COUNT, 8)
    steps: int | None = _key(kinds.STEPS, None)
    """Denoising steps with which the thresholds hold; None for the command's own."""
    guidance: float | None = _key(kinds.GUIDANCE, None)
    """Classifier-free guidance scale likewise."""
    efficacy: float | None = _key(kinds.SHARE, None)
    generality: float | None = _key(kinds.SHARE, None)
    specificity: float | None = _key(kinds.SHARE, None)
    explicit: float | None = _key(kinds.SHARE, None)
    kept: float | None = _key(kinds.SHARE, None)
    reached: float | None = _key(kinds.SHARE, None)


@dataclass(frozen=True)
class Balance:
    """Two descriptions of one thing, and how often the first should be drawn (Orgad et al. 2023, §6)."""

    descriptions: tuple[str, str] = _key(kinds.pair_of(kinds.TEXT))
    validation: tuple[str, ...] = _key(kinds.one_or_list(kinds.TEXT))
    """The prompts on which `timecli tune` counts."""
    prompts: tuple[str, ...] = _key(kinds.list_of(kinds.TEXT, minimum=0), ())
    """The prompts on which `timecli bench` counts."""
    target: float = _key(kinds.SHARE, 0.5)
    """Share of pictures of the first description."""


@dataclass(frozen=True)
class Manifest:
    """A whole edit file."""

    name: str = _key(kinds.NAME)
    edits: tuple[Edit, ...] = _key(kinds.list_of(_table(Edit), form="[[edit]], in two brackets"), name="edit")
    description: str = _key(kinds.TEXT, "")
    model: str = _key(kinds.TEXT, "")
    """The model that the edit was written for, for readers; any model is accepted."""
    solve: Solve = _key(_table(Solve), Solve())
    preserve: Preserve = _key(_table(Preserve), Preserve())
    verify: Verify = _key(_table(Verify), Verify())
    balance: Balance | None = _key(_table(Balance), None)
    text: str = ""
    """The TOML text itself, as it travels with the edited model."""
    folder: Path = field(default=Path(), compare=False)
    """Where the files that it names are looked for."""

    def lam(self, edit: Edit) -> float:
        """λ of one of the edits."""
        return self.solve.lam if edit.lam is None else edit.lam

    def strength(self, edit: Edit) -> float:
        """How much of one of the edits is wanted."""
        return self.solve.strength if edit.strength is None else edit.strength

    @property
    def templates(self) -> tuple[str, ...]:
        """The wordings that every pair and every preserved prompt enters the solve with, beside its own."""
        if self.solve.augment is not None:
            return self.solve.augment
        return WORDINGS if self.preserve.everyday is not False else AUGMENTATIONS


def with_lambda(manifest: Manifest, lam: float) -> Manifest:
    """The manifest with another λ for all its edits."""
    edits = tuple(replace(edit, lam=None) for edit in manifest.edits)
    return replace(manifest, solve=replace(manifest.solve, lam=lam), edits=edits)


def with_strength(manifest: Manifest, strength: float) -> Manifest:
    """The manifest with another strength for all its edits."""
    edits = tuple(replace(edit, strength=None) for edit in manifest.edits)
    return replace(manifest, solve=replace(manifest.solve, strength=strength), edits=edits)


def _keys(cls: type) -> dict[str, Field[Any]]:
    return {item.metadata["key"] or item.name: item for item in fields(cls) if "kind" in item.metadata}


def _read_table(cls: type[T], table: Any, where: str, form: str = "") -> T:
    if not isinstance(table, dict):
        raise kinds.refuse(where, table, f"a table: {form}" if form else "a table")
    known = _keys(cls)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}."
            raise ManifestError(f"{_inside(where, key[:60])} is not a key of a manifest; {hint}")
    values = {}
    for key, item in known.items():
        if key in table:
            values[item.name] = item.metadata["kind"].read(table[key], _inside(where, key))
        elif item.default is MISSING:
            raise ManifestError(f"{_inside(where, key)} is missing; add it.")
    return cls(**values)


def _inside(where: str, key: str) -> str:
    return f"{where}{key}" if where.endswith(": ") else f"{where}.{key}"


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
        table = tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError) as error:
        raise ManifestError(f"{path} is not valid TOML: {one_line(error)}.") from error
    except ValueError as error:
        raise ManifestError(f"{path} has a number of thousands of digits; no key takes one.") from error
    manifest = _read_table(Manifest, table, f"{path}: ")
    _check_edits(manifest, path)
    _check_thresholds(manifest, path)
    return replace(manifest, text=text)


def load(path: Path) -> Manifest:
    """Read a manifest file.

    Raises:
        ManifestError: as `parse`, or the file is missing, another kind of file, or not UTF-8.
    """
    if os.path.isdir(path):
        raise ManifestError(f"{path} is a folder, not a manifest; give MANIFEST first, then MODEL.")
    content = foreign.read(path, ManifestError)
    if foreign.is_model(content):
        raise ManifestError(f"{path} is a model, not a manifest; give MANIFEST first, then MODEL.")
    read = parse(foreign.decoded(content, path, "a manifest", ManifestError), str(path))
    return replace(read, folder=Path(path).parent)


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a manifest."""
    tables = {cls.__name__: _table_schema(cls) for cls in (Probe, Edit, Solve, Preserve, Verify, Balance)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "timecli edit manifest",
        **_table_schema(Manifest),
        "$defs": tables,
    }


def _table_schema(cls: type) -> dict[str, Any]:
    known = _keys(cls)
    return {
        "type": "object",
        "properties": {key: item.metadata["kind"].schema for key, item in known.items()},
        "required": [key for key, item in known.items() if item.default is MISSING],
        "additionalProperties": False,
    }
