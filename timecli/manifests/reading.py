"""A dataclass as a table of TOML: how it is read, and how a JSON Schema says the same."""

from __future__ import annotations

import difflib
from dataclasses import MISSING, Field, field, fields
from typing import Any, TypeVar

from timecli.errors import ManifestError
from timecli.manifests import kinds

T = TypeVar("T")


def table(cls: type, form: str = "") -> kinds.Kind:
    """A table of its own; `form` is how it is written, for whoever wrote something else."""
    return kinds.Kind(lambda value, where: read_table(cls, value, where, form), {"$ref": f"#/$defs/{cls.__name__}"})


def key(kind: kinds.Kind, about: str, default: Any = MISSING, name: str = "") -> Any:
    """A field read by `kind`; `about` is for editors; required without a default; `name` where the key differs."""
    metadata = {"kind": kind, "key": name, "about": about}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def keys(cls: type) -> dict[str, Field[Any]]:
    """The keys of a table and their fields."""
    return {item.metadata["key"] or item.name: item for item in fields(cls) if "kind" in item.metadata}


def read_table(cls: type[T], found: Any, where: str, form: str = "") -> T:
    """A table of TOML as its dataclass; raises ManifestError with the key. `where` is how errors call it."""
    if not isinstance(found, dict):
        raise kinds.refuse(where, found, f"a table: {form}" if form else "a table")
    known = keys(cls)
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}."
            raise ManifestError(f"{_inside(where, name[:60])} is not a key of a manifest; {hint}")
    values = {}
    for name, item in known.items():
        if name in found:
            values[item.name] = item.metadata["kind"].read(found[name], _inside(where, name))
        elif item.default is MISSING:
            raise ManifestError(f"{_inside(where, name)} is missing; add it.")
    return cls(**values)


def _inside(where: str, key: str) -> str:
    return f"{where}{key}" if where.endswith(": ") else f"{where}.{key}"


def table_schema(cls: type) -> dict[str, Any]:
    """How a JSON Schema describes a table."""
    known = keys(cls)
    return {
        "type": "object",
        "properties": {
            name: {"description": item.metadata["about"], **item.metadata["kind"].schema}
            for name, item in known.items()
        },
        "required": [name for name, item in known.items() if item.default is MISSING],
        "additionalProperties": False,
    }
