"""The published TIMED files (Orgad et al. 2023, §5.2 and §6.1) to manifests, one for every row.

`timed`: columns old, new, positive1..5 with gt1..5, negative1..5 with gn1..5. `gender`: old, new, validation, ex1..5.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from timecli.errors import ManifestError
from timecli.files import foreign
from timecli.manifests import manifest
from timecli.manifests.toml import line, probe, quoted

TESTS = range(1, 6)
COLUMNS = {
    "timed": ("old", "new", *(f"{kind}{i}" for i in TESTS for kind in ("positive", "gt", "negative", "gn"))),
    "gender": ("old", "new", "validation", *(f"ex{i}" for i in TESTS)),
}
GENDERS = ("female", "male")


@dataclass(frozen=True)
class Imported:
    """A row as a manifest: its text, its name, and sentences for what was left out."""

    name: str
    text: str
    left_out: tuple[str, ...]


def read(path: Path, kind: str) -> list[Imported]:
    """Every row of a TIMED file.

    Args:
        path: a CSV file with a header.
        kind: a key of `COLUMNS`.

    Raises:
        ManifestError: a column or a value is missing, or a row is no valid edit.
    """
    text = foreign.read_text(path, "a CSV file", ManifestError)
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        return _rows(table, path, kind)
    except csv.Error as error:
        raise ManifestError(f"{path}, line {table.line_num} is not CSV ({error}); mend its quotes.") from error


def _rows(table: csv.DictReader[str], path: Path, kind: str) -> list[Imported]:
    if missing := [column for column in COLUMNS[kind] if column not in (table.fieldnames or ())]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        begins = ", ".join(COLUMNS[kind][:4])
        raise ManifestError(f"{path} has no column {missing[0]!r}{more}; a {kind} file's begin with {begins}.")
    found = []
    for number, row in enumerate(table, 1):
        where = f"{path}, line {table.line_num}"
        values = {column: " ".join((row[column] or "").split()) for column in COLUMNS[kind]}
        if empty := [column for column, value in values.items() if not value]:
            raise ManifestError(f"{where}: {empty[0]} is empty; fill it in.")
        found.append((_timed if kind == "timed" else _gender)(values, number, where))
    return found


def _timed(row: dict[str, str], number: int, where: str) -> Imported:
    left_out: list[str] = []
    lines = [line("source", row["old"]), line("destination", row["new"])]
    for key, prompt, destination in (("positives", "positive", "gt"), ("negatives", "negative", "gn")):
        lines += [f"{key} = [", *_probes(row, prompt, destination, where, left_out), "]"]
    return _imported(row, number, where, ["", "[[edit]]", *lines], left_out)


def _probes(row: dict[str, str], prompt: str, destination: str, where: str, left_out: list[str]) -> Iterator[str]:
    for i in TESTS:
        texts = row[f"{prompt}{i}"], row[f"{destination}{i}"]
        if manifest.same(*texts):
            left_out.append(f"{where}: {prompt}{i} {texts[0]!r} is its own destination; it is left out.")
        else:
            yield probe(*texts)


def _gender(row: dict[str, str], number: int, where: str) -> Imported:
    """Without augmentations (appendix H.2)."""
    words = row["new"].split()
    named = [gender for gender in GENDERS if gender in words]
    if len(named) != 1:
        raise ManifestError(f"{where}: new {row['new']!r} must name one of {' and '.join(GENDERS)}.")
    descriptions = [" ".join(gender if word == named[0] else word for word in words) for gender in GENDERS]
    lines = ["", "[solve]", "augment = false", "", "[[edit]]", line("source", row["old"])]
    lines += [
        line("destination", row["new"]),
        "",
        "[balance]",
        f"descriptions = [{', '.join(map(quoted, descriptions))}]",
    ]
    lines += [line("validation", row["validation"]), "prompts = ["]
    lines += [f"    {quoted(row[f'ex{i}'])}," for i in TESTS]
    return _imported(row, number, where, [*lines, "]"], [])


def _imported(row: dict[str, str], number: int, where: str, lines: list[str], left_out: list[str]) -> Imported:
    slug = re.sub(r"[^a-z0-9]+", "-", row["new"].lower()).strip("-")
    name = f"{number:03}-{slug}"
    text = "\n".join([line("name", name), line("description", f"{row['old']}: {row['new']}."), *lines]) + "\n"
    manifest.parse(text, where)
    return Imported(name, text, tuple(left_out))
