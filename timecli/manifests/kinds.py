"""How a value of TOML or JSON is checked, and how a JSON Schema says the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from timecli.errors import ManifestError
from timecli.shown import brief

Reader = Callable[[Any, str], Any]


@dataclass(frozen=True)
class Kind:
    """How one value is checked, and how the JSON Schema describes it."""

    read: Reader
    schema: dict[str, Any]


def refuse(where: str, found: object, wanted: str) -> ManifestError:
    """The error for a value that is not what was wanted."""
    return ManifestError(f"{where} is {brief(found)}; it must be {wanted}.")


def kind(wanted: str, accepts: Callable[[Any], bool], schema: dict[str, Any], convert: Callable[[Any], Any]) -> Kind:
    """A single value that passes a test, and how errors call what was wanted."""

    def read(value: Any, where: str) -> Any:
        if not accepts(value):
            raise refuse(where, value, wanted)
        return convert(value)

    return Kind(read, schema)


def number(least: float, most: float) -> Kind:
    """A number in a range, read as a float."""

    def accepts(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most

    schema = {"type": "number", "minimum": least, "maximum": most}
    return kind(f"a number from {least:g} to {most:g}", accepts, schema, float)


def whole(what: str, least: int, most: int) -> Kind:
    """A whole number in a range; `what` is how errors call it."""

    def accepts(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    schema = {"type": "integer", "minimum": least, "maximum": most}
    return kind(f"{what} from {least} to {most}", accepts, schema, int)


def pair_of(kind: Kind, unique: bool = True) -> Kind:
    """Two values of one kind, different ones if they shall be unique, read as a tuple."""
    several = list_of(kind, unique=unique)

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list) or len(value) != 2:
            raise refuse(where, value, "a list of two")
        return several.read(value, where)

    return Kind(read, {**several.schema, "minItems": 2, "maxItems": 2})


def list_of(kind: Kind, minimum: int = 1, unique: bool = False, form: str = "") -> Kind:
    """A list of one kind, read as a tuple; `form` is how it is written, for whoever wrote something else."""

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list) or len(value) < minimum:
            wanted = "a list" + (" that is not empty" if minimum else "")
            raise refuse(where, value, f"{wanted}: {form}" if form else wanted)
        items = tuple(kind.read(item, f"{where}[{i}]") for i, item in enumerate(value))
        if unique and len(set(items)) < len(items):
            raise refuse(where, value, "a list without repetitions")
        return items

    schema = {"type": "array", "items": kind.schema, "minItems": minimum}
    return Kind(read, {**schema, "uniqueItems": True} if unique else schema)


def either(word: str | bool | None, result: Any, kind: Kind) -> Kind:
    """One fixed word, or whatever `kind` reads."""

    def read(value: Any, where: str) -> Any:
        return result if value is word or (isinstance(word, str) and value == word) else kind.read(value, where)

    return Kind(read, {"anyOf": [{"const": word}, kind.schema]})


def one_or_list(kind: Kind) -> Kind:
    """One value, or a list of some; a tuple either way."""
    several = list_of(kind)

    def read(value: Any, where: str) -> Any:
        return several.read(value, where) if isinstance(value, list) else (kind.read(value, where),)

    return Kind(read, {"anyOf": [kind.schema, several.schema]})


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
TEXT = kind(
    "a text that is not empty",
    lambda v: isinstance(v, str) and bool(v.strip()),
    {"type": "string", "pattern": r"\S"},
    str,
)
NAME = kind(
    "a file name: letters, digits, '.', '_' and '-', 100 at most",
    lambda v: isinstance(v, str) and bool(_NAME.fullmatch(v)),
    {"type": "string", "pattern": f"^{_NAME.pattern}$"},
    str,
)
LAMBDA = number(1e-12, 1e12)
"""What float64 can work with."""
SHARE = number(0, 1)
STRENGTH = number(0, 10)
"""How much of an edit is wanted; 1 is all of it, more overshoots."""
LAYER = whole("a layer number", 0, 999)
MOST_SEEDS = 10_000
"""Pictures of one prompt that fit into a machine's memory, and seeds that everything else can count."""
MOST_STEPS, MOST_GUIDANCE = 1000, 1000.0
STEPS = whole("a whole number", 1, MOST_STEPS)
GUIDANCE = number(0, MOST_GUIDANCE)
"""Classifier-free guidance scale."""
COUNT = whole("a whole number", 1, MOST_SEEDS)
TEMPLATE = kind(
    "a text with one {} in it",
    lambda v: isinstance(v, str) and v.count("{}") == 1,
    {"type": "string", "pattern": r"^[^{}]*\{\}[^{}]*$"},
    str,
)
NO_TEMPLATES = either(False, (), list_of(TEMPLATE, unique=True))
MATRIX = kind("'k' or 'v'", lambda v: v in ("k", "v"), {"enum": ["k", "v"]}, str)
TOKENS = kind("'all' or 'prompt'", lambda v: v in ("all", "prompt"), {"enum": ["all", "prompt"]}, str)
