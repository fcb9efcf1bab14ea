"""TOML text to a frozen `Manifest`. Every error names the file and the field; unknown keys are refused.

Each dataclass below is one TOML table. A field says how its value is read and what the JSON Schema calls it, so that
the reader, the schema and the reference cannot drift apart.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import tomli

from timecli.errors import ManifestError

AUGMENTATIONS = ("A photo of {}", "An image of {}", "A picture of {}")
"""The textual augmentations of Orgad et al. (2023), appendix C; `{}` stands for the prompt."""

Reader = Callable[[Any, str], Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """How one TOML value is checked, and how the JSON Schema describes it."""

    read: Reader
    schema: dict[str, Any]


def _refuse(where: str, found: object, wanted: str) -> ManifestError:
    shown = "true" if found is True else "false" if found is False else repr(found)
    return ManifestError(f"{where} is {shown}; it must be {wanted}.")


def _kind(wanted: str, accepts: Callable[[Any], bool], schema: dict[str, Any], convert: Callable[[Any], Any]) -> Kind:
    def read(value: Any, where: str) -> Any:
        if not accepts(value):
            raise _refuse(where, value, wanted)
        return convert(value)

    return Kind(read, schema)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _list_of(kind: Kind, minimum: int = 1, unique: bool = False) -> Kind:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list) or len(value) < minimum:
            raise _refuse(where, value, "a list" + (" that is not empty" if minimum else ""))
        items = tuple(kind.read(item, f"{where}[{i}]") for i, item in enumerate(value))
        if unique and len(set(items)) < len(items):
            raise _refuse(where, value, "a list without repetitions")
        return items

    schema = {"type": "array", "items": kind.schema, "minItems": minimum}
    return Kind(read, {**schema, "uniqueItems": True} if unique else schema)


def _either(word: str | bool, result: Any, kind: Kind) -> Kind:
    """One fixed word, or whatever `kind` reads."""

    def read(value: Any, where: str) -> Any:
        return result if value is word or (isinstance(word, str) and value == word) else kind.read(value, where)

    return Kind(read, {"anyOf": [{"const": word}, kind.schema]})


def _table(cls: type) -> Kind:
    return Kind(lambda value, where: _read_table(cls, value, where), {"$ref": f"#/$defs/{cls.__name__}"})


def _key(kind: Kind, default: Any = MISSING, name: str = "") -> Any:
    """A field read by `kind`; required without a default; `name` where the TOML key is a Python keyword."""
    metadata = {"kind": kind, "key": name}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
TEXT = _kind(
    "a text that is not empty",
    lambda v: isinstance(v, str) and bool(v.strip()),
    {"type": "string", "pattern": r"\S"},
    str,
)
NAME = _kind(
    "a file name: letters, digits, '.', '_' and '-'",
    lambda v: isinstance(v, str) and bool(_NAME.fullmatch(v)),
    {"type": "string", "pattern": f"^{_NAME.pattern}$"},
    str,
)
LAMBDA = _kind(
    "a finite number above 0", lambda v: _is_number(v) and v > 0, {"type": "number", "exclusiveMinimum": 0}, float
)
SHARE = _kind(
    "a number from 0 to 1",
    lambda v: _is_number(v) and 0 <= v <= 1,
    {"type": "number", "minimum": 0, "maximum": 1},
    float,
)
LAYER = _kind(
    "a layer number from 0",
    lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0,
    {"type": "integer", "minimum": 0},
    int,
)
COUNT = _kind(
    "a whole number from 1",
    lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 1,
    {"type": "integer", "minimum": 1},
    int,
)
TEMPLATE = _kind(
    "a text with one {} in it",
    lambda v: isinstance(v, str) and v.count("{}") == 1,
    {"type": "string", "pattern": r"^[^{}]*\{\}[^{}]*$"},
    str,
)
NO_TEMPLATES = _either(False, (), _list_of(TEMPLATE, unique=True))
MATRIX = _kind("'k' or 'v'", lambda v: v in ("k", "v"), {"enum": ["k", "v"]}, str)
TOKENS = _kind("'all' or 'prompt'", lambda v: v in ("all", "prompt"), {"enum": ["all", "prompt"]}, str)


@dataclass(frozen=True)
class TestPrompt:
    """A prompt that is not edited but looked at, with the prompt that names the attribute."""

    prompt: str = _key(TEXT)
    destination: str = _key(TEXT)


@dataclass(frozen=True)
class Edit:
    """One assumption: what `source` shows becomes what `destination` shows."""

    source: str = _key(TEXT)
    destination: str = _key(TEXT)
    lam: float | None = _key(LAMBDA, None, "lambda")
    """λ of this pair; None takes the manifest's."""
    positives: tuple[TestPrompt, ...] = _key(_list_of(_table(TestPrompt), minimum=0), ())
    negatives: tuple[TestPrompt, ...] = _key(_list_of(_table(TestPrompt), minimum=0), ())


@dataclass(frozen=True)
class Solve:
    """How the edit is computed. The defaults are those of Orgad et al. (2023), §5.1."""

    lam: float = _key(LAMBDA, 0.1, "lambda")
    augment: tuple[str, ...] = _key(_either(True, AUGMENTATIONS, NO_TEMPLATES), AUGMENTATIONS)
    matrices: tuple[str, ...] = _key(_list_of(MATRIX, unique=True), ("k", "v"))
    layers: tuple[int, ...] | None = _key(_either("all", None, _list_of(LAYER, unique=True)), None)
    """Cross-attention layers counted from the input; None for all."""
    tokens: str = _key(TOKENS, "all")
    """"all": every position of the encoder's output, padding too; "prompt": up to the end token."""


@dataclass(frozen=True)
class Preserve:
    """Prompts whose projections should stay. They enter the inverse only."""

    prompts: tuple[str, ...] = _key(_list_of(TEXT, minimum=0), ())
    weight: float = _key(LAMBDA, 1.0)


@dataclass(frozen=True)
class Verify:
    """What `timecli verify` renders beyond the edits' own prompts, and what it demands."""

    prompts: tuple[str, ...] = _key(_list_of(TEXT, minimum=0), ())
    seeds: int = _key(COUNT, 8)
    efficacy: float | None = _key(SHARE, None)
    generality: float | None = _key(SHARE, None)
    specificity: float | None = _key(SHARE, None)


@dataclass(frozen=True)
class Manifest:
    """A whole edit file."""

    name: str = _key(NAME)
    edits: tuple[Edit, ...] = _key(_list_of(_table(Edit)), name="edit")
    description: str = _key(TEXT, "")
    model: str = _key(TEXT, "")
    """The model that the edit was written for, for readers; any model is accepted."""
    solve: Solve = _key(_table(Solve), Solve())
    preserve: Preserve = _key(_table(Preserve), Preserve())
    verify: Verify = _key(_table(Verify), Verify())
    text: str = ""
    """The TOML text itself, as it travels with the edited model."""

    def lam(self, edit: Edit) -> float:
        """λ of one of the edits."""
        return self.solve.lam if edit.lam is None else edit.lam


def _keys(cls: type) -> dict[str, Field[Any]]:
    return {item.metadata["key"] or item.name: item for item in fields(cls) if "kind" in item.metadata}


def _read_table(cls: type[T], table: Any, where: str) -> T:
    if not isinstance(table, dict):
        raise _refuse(where, table, "a table")
    known = _keys(cls)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}."
            raise ManifestError(f"{_inside(where, key)} is not a key of a manifest; {hint}")
    values = {}
    for key, item in known.items():
        if key in table:
            values[item.name] = item.metadata["kind"].read(table[key], _inside(where, key))
        elif item.default is MISSING:
            raise ManifestError(f"{_inside(where, key)} is missing; add it.")
    return cls(**values)


def _inside(where: str, key: str) -> str:
    return f"{where}{key}" if where.endswith(": ") else f"{where}.{key}"


def _same(one: str, other: str) -> bool:
    return one.lower().split() == other.lower().split()


def _check_edits(manifest: Manifest, path: str) -> None:
    seen: dict[str, int] = {}
    for i, edit in enumerate(manifest.edits):
        where = f"{path}: edit[{i}]"
        if _same(edit.source, edit.destination):
            raise ManifestError(
                f"{where}: source and destination are both {edit.source!r}; name the attribute in the destination."
            )
        for kind in ("positives", "negatives"):
            for j, test in enumerate(getattr(edit, kind)):
                if _same(test.prompt, test.destination):
                    raise ManifestError(
                        f"{where}.{kind}[{j}]: prompt and destination are both {test.prompt!r}; they must differ."
                    )
        source = " ".join(edit.source.lower().split())
        if source in seen:
            raise ManifestError(
                f"{where}.source {edit.source!r} is already the source of edit[{seen[source]}]; keep one of them."
            )
        seen[source] = i


def parse(text: str, path: str = "manifest") -> Manifest:
    """Read TOML text. `path` is how errors call it.

    Raises:
        ManifestError: not TOML, an unknown or missing key, a value out of range, or edits that contradict each other.
    """
    try:
        table = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ManifestError(f"{path} is not valid TOML: {error}.") from error
    manifest = _read_table(Manifest, table, f"{path}: ")
    _check_edits(manifest, path)
    return replace(manifest, text=text)


def load(path: Path) -> Manifest:
    """Read a manifest file.

    Raises:
        ManifestError: as `parse`, or the file is missing or not UTF-8.
    """
    try:
        return parse(path.read_bytes().decode("utf-8"), str(path))
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a manifest."""
    tables = {cls.__name__: _table_schema(cls) for cls in (TestPrompt, Edit, Solve, Preserve, Verify)}
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
