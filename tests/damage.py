"""Commands on damaged inputs: each follows from its number, so that it can be made again."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = """\
name = "x"
description = "Roses are blue."

[solve]
lambda = 0.1
augment = false
layers = [0, 15]
tokens = "prompt"

[[edit]]
source = "a rose"
destination = "a blue rose"
positives = [{ prompt = "two roses", destination = "two blue roses" }]
negatives = [{ prompt = "a poppy", destination = "a blue poppy" }]

[preserve]
prompts = ["a tulip"]

[verify]
seeds = 2
specificity = 0.5
"""
TESTS = [f"{kind}{i}" for i in range(1, 6) for kind in ("positive", "gt", "negative", "gn")]
TABLES = {
    "timed": [["old", "new", *TESTS], ["a rose", "a blue rose", *(f"a {name}" for name in TESTS)]],
    "gender": [["old", "new", "validation", "ex1", "ex2", "ex3", "ex4", "ex5"], ["a CEO", "a female CEO", *"abcdef"]],
}

VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 7, 2**31, 2**63, 2**64, 10**30, 10**400),
    *(1.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "1", "all", "F32", "é\x00", "\x1b[31m\x9b2J", "\u202eabc\u2066", "\ud800", "A" * 3000, "日本"),
    "[/] [bold] :rose: `|` <b>$x$",
    *([], {}, [1], [[]], {"a": {"b": [None]}}, ["\x1b"]),
]
"""Every type that JSON has, at its edges."""
NOISE = (
    *(
        b"\x00",
        b"\x1b[2J",
        b"\xff\xfe",
        b"\r",
        b"\x9b",
        b"\xc2\x9b",
        b"{",
        b"]",
        b'"',
        b"'",
        b"\\",
        b"\xc3",
        b"=",
        b"\n",
    ),
    *(b"9" * 5000, b"[" * 2000, b"[[", b"\xe2\x80\xae", b"version https://git-lfs.github.com/spec/v1\n", b"<html>"),
)
BITS = {
    **{"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "C64": 64},
    **{"I64": 64, "I8": 8, "U8": 8, "U16": 16, "U32": 32, "U64": 64, "BOOL": 8},
}
"""Bits of a number, for every dtype that safetensors knows."""
CONFIGS = (
    *("text_encoder/config.json", "tokenizer/tokenizer_config.json", "tokenizer/tokenizer.json"),
    *("tokenizer/vocab.json", "tokenizer/merges.txt", "model_index.json"),
)


@dataclass(frozen=True)
class Sound:
    """Files that are as they should be: a small model, it edited, the delta, its manifest, its config folder."""

    model: Path
    edited: Path
    delta: Path
    manifest: Path
    config: Path


@dataclass(frozen=True)
class Case:
    """A command on a damaged input: what was damaged, where it is, and the command line."""

    kind: str
    path: Path
    arguments: tuple[str, ...]


def case(number: int, sound: Sound, folder: Path) -> Case:
    """Make the input of that number in an empty folder. What the command writes belongs into `folder / "out"`."""
    rng = random.Random(number)
    kind = rng.choice(list(KINDS))
    path, commands = KINDS[kind](rng, sound, folder)
    (folder / "out").mkdir()
    return Case(kind, path, tuple(map(str, rng.choice(commands))))


Commands = list[list[Any]]


def _model(damage: Callable[[bytes, random.Random], bytes]) -> Callable[..., tuple[Path, Commands]]:
    """A model, with or without an edit, is damaged."""

    def make(rng: random.Random, sound: Sound, folder: Path) -> tuple[Path, Commands]:
        path = folder / "model.safetensors"
        path.write_bytes(damage(rng.choice([sound.model, sound.edited]).read_bytes(), rng))
        with_config = ["--config", sound.config]
        edit = ["edit", sound.manifest, path, *with_config]
        out = folder / "out" / "out.safetensors"
        return path, [
            *(["inspect", path], ["inspect", path, "--json"], ["inspect", path, "--textconv"]),
            ["plan", sound.manifest, path, *with_config],
            [*edit, "-o", out],
            [*edit, "-o", out, "--stack", "--hash", "--json"],
            [*edit, "-o", out, "--stack", "--dtype", "fp16"],
            [*edit, "--delta", folder / "out" / "x.delta"],
            ["plan", sound.manifest, path, *with_config, "--json"],
            ["apply", sound.delta, path, "-o", out, "--stack"],
            ["apply", sound.delta, path, "-o", out, "--json"],
            ["export", sound.delta, path, "-o", out],
            ["diff", path, sound.model],
            ["diff", sound.model, path, "--json", "--delta", folder / "out" / "x.delta"],
        ]

    return make


def _delta(damage: Callable[[bytes, random.Random], bytes]) -> Callable[..., tuple[Path, Commands]]:
    """A delta is damaged."""

    def make(rng: random.Random, sound: Sound, folder: Path) -> tuple[Path, Commands]:
        path, out = folder / "x.delta", folder / "out" / "out.safetensors"
        path.write_bytes(damage(sound.delta.read_bytes(), rng))
        return path, [
            *(["inspect", path], ["inspect", path, "--json"], ["inspect", path, "--textconv"]),
            ["apply", path, sound.model, "-o", out],
            ["apply", path, sound.edited, "-o", out, "--stack", "--json"],
            ["export", path, sound.model, "-o", out, "--format", rng.choice(["lora", "peft", "diff"])],
            ["edit", sound.manifest, path, "-o", out],
        ]

    return make


def _manifest(damage: Callable[[bytes, random.Random], bytes]) -> Callable[..., tuple[Path, Commands]]:
    """A manifest is damaged."""

    def make(rng: random.Random, sound: Sound, folder: Path) -> tuple[Path, Commands]:
        path, out = folder / "x.toml", folder / "out" / "out.safetensors"
        path.write_bytes(damage(MANIFEST.encode(), rng))
        return path, [
            *(["plan", path], ["plan", path, sound.model]),
            ["edit", path, sound.model, "-o", out],
            ["edit", path, sound.model, "--delta", folder / "out" / "x.delta", "--json"],
            ["inspect", path],
        ]

    return make


def _config(damage: Callable[[bytes, random.Random], bytes]) -> Callable[..., tuple[Path, Commands]]:
    """A file of the config folder is damaged."""

    def make(rng: random.Random, sound: Sound, folder: Path) -> tuple[Path, Commands]:
        shutil.copytree(sound.config, folder / "config")
        path = folder / "config" / rng.choice(CONFIGS)
        path.write_bytes(damage(path.read_bytes(), rng))
        if path.name in ("vocab.json", "merges.txt"):  # otherwise nobody reads them
            (path.parent / "tokenizer.json").unlink()
        given = ["--config", folder / "config"]
        return path, [
            ["plan", sound.manifest, sound.model, *given],
            ["edit", sound.manifest, sound.model, *given, "-o", folder / "out" / "out.safetensors"],
            ["plan", sound.manifest, sound.model, "--tokenizer", folder / "config" / "tokenizer", "--pairs"],
        ]

    return make


def _table(rng: random.Random, sound: Sound, folder: Path) -> tuple[Path, Commands]:
    """A published file of edits is damaged."""
    kind = rng.choice(list(TABLES))
    rows = copy.deepcopy(TABLES[kind]) + [TABLES[kind][1]]
    if rng.random() < 0.5:
        cells = rng.choice(rows)
        cells[rng.randrange(len(cells))] = str(value(rng))
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    content = text.getvalue().encode("utf-8", "surrogatepass")
    path = folder / "x.csv"
    path.write_bytes(content if rng.random() < 0.5 else noisy(content, rng))
    return path, [["import", kind, path, "-o", folder / "out" / "manifests"]]


def value(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(VALUES))


def noisy(content: bytes, rng: random.Random) -> bytes:
    """Bytes with one fault: cut, changed, repeated, filled with noise, or in another encoding."""
    place = rng.randrange(len(content) + 1)
    stop = min(len(content), place + rng.randrange(1, 40))
    ways = [
        content[:place],
        content[:place] + content[stop:],
        content[:place] + rng.choice(NOISE) + content[place:],
        content[:place] + rng.choice(NOISE) + content[stop:],
        content[:place] + bytes(rng.randrange(256) for _ in range(3)) + content[stop:],
        content[:stop] + content[place:],
        content.decode("latin-1").encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"])),
    ]
    return rng.choice(ways)


def changed(table: Any, rng: random.Random) -> Any:
    """JSON in which one value, anywhere, is another, or is gone, or has company."""
    if rng.random() < 0.03:
        return value(rng)
    table = copy.deepcopy(table)
    inside, key = rng.choice(list(_places(table)))
    if rng.random() < 0.2:
        del inside[key]
    elif rng.random() < 0.15 and isinstance(inside, dict):
        inside[rng.choice(["x", "\x1b[1m", "edit", "lambda ", "[/]"])] = value(rng)
    else:
        inside[key] = value(rng)
    return table


def _places(table: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(table) if isinstance(table, dict) else range(len(table)):
        yield table, key
        if isinstance(table[key], dict | list):
            yield from _places(table[key])


def json_changed(content: bytes, rng: random.Random) -> bytes:
    """A JSON file with another value in it; what is no JSON gets noise."""
    try:
        return json.dumps(changed(json.loads(content), rng)).encode()
    except (ValueError, IndexError):
        return noisy(content, rng)


def toml_changed(content: bytes, rng: random.Random) -> bytes:
    """A manifest with another value in it."""
    import tomli

    table = changed(tomli.loads(content.decode()), rng)
    lines = [f"{_key(key)} = {_toml(part)}" for key, part in table.items()] if isinstance(table, dict) else [str(table)]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _key(name: str) -> str:
    return json.dumps(name)


def _toml(part: Any) -> str:
    if isinstance(part, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(inner)}" for key, inner in part.items()) + "}"
    if isinstance(part, list):
        return "[" + ", ".join(map(_toml, part)) + "]"
    if isinstance(part, float):
        return str(part)
    return json.dumps(part, ensure_ascii=False)


Tensors = dict[str, dict[str, Any]]


def _parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _joined(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def header_bytes(content: bytes, rng: random.Random) -> bytes:
    """The length of a header, its text, or the end of the file is another."""
    length = struct.unpack("<Q", content[:8])[0]
    text, data = content[8 : 8 + length], content[8 + length :]
    wrong = rng.choice([0, 1, length - 1, length + 1, 2**31, 2**40, 2**63, 2**64 - 1])
    noise = noisy(text, rng)
    ways = [
        struct.pack("<Q", wrong) + text + data,
        content[: rng.randrange(len(content))],
        content[:8] + noise + data,
        struct.pack("<Q", len(noise)) + noise + data,
        content + bytes(rng.randrange(1, 9)),
        noisy(content[:200], rng),
    ]
    return rng.choice(ways)


def header_values(content: bytes, rng: random.Random) -> bytes:
    """A header that lies: of types, shapes, offsets, or in one of its keys."""
    header, data = _parts(content)
    name = rng.choice([name for name in header if name != "__metadata__"])
    if rng.random() < 0.7:
        part = changed({name: header[name]}, rng)
        header = {**header, **part} if isinstance(part, dict) else part
    else:
        header = {**header, "__metadata__": value(rng)}
    return _joined(header, data)


def metadata(content: bytes, rng: random.Random) -> bytes:
    """The texts of the metadata, and the JSON in them, are others."""
    header, data = _parts(content)
    own = header.setdefault("__metadata__", {})
    key = rng.choice([*own, "timecli.edits", "timecli.delta", "sd_merge_models", "sd_merge_recipe", "modelspec.title"])
    text = own.get(
        key, '[{"name": "x", "lambdas": [0.1], "strength": 1.0, "base": "0", "encoder": "0", "version": "0"}]'
    )
    changed_text = json_changed(text.encode(), rng).decode("utf-8", "replace")
    own[key] = rng.choice([changed_text, changed_text, changed_text, str(value(rng)), "[" * 3000, "9" * 5000])
    return _joined(header, data)


def tensors(content: bytes, rng: random.Random) -> bytes:
    """A whole file, in which a tensor has another shape, type or name, is NaN, or is not there."""
    header, data = _parts(content)
    own = header.pop("__metadata__", {})
    parts = {name: (entry, data[slice(*entry["data_offsets"])]) for name, entry in header.items()}
    name = rng.choice(list(parts))
    entry, block = parts[name]
    way = rng.randrange(5)
    if way == 0:
        del parts[name]
    elif way == 1:
        parts[rng.choice([f"{name}\x1b[31m", "[/]", ":rose:\u202e", name.upper(), ""])] = parts.pop(name)
    elif way == 2:
        parts[name] = entry, b"\xff" * len(block)
    else:
        kind = rng.choice(list(BITS)) if way == 3 or rng.random() < 0.3 else entry["dtype"]
        shape = entry["shape"] if way == 3 else _shape(entry["shape"], rng)
        count = 1
        for size in shape:
            count *= size
        if count * BITS[kind] % 8 == 0:
            parts[name] = {"dtype": kind, "shape": shape}, rng.randbytes(count * BITS[kind] // 8)
    blocks, entries, place = [], {}, 0
    for key, (one, block) in parts.items():
        entries[key] = {"dtype": one["dtype"], "shape": one["shape"], "data_offsets": [place, place + len(block)]}
        place += len(block)
        blocks.append(block)
    return _joined({"__metadata__": own, **entries}, b"".join(blocks))


def _shape(shape: list[int], rng: random.Random) -> list[int]:
    ways = [
        [],
        [0],
        [1],
        shape[:-1],
        [*shape, 1],
        shape[::-1],
        [size + 1 for size in shape],
        [0, *shape[1:]],
        [1, *shape],
    ]
    return rng.choice(ways)


KINDS: dict[str, Callable[[random.Random, Sound, Path], tuple[Path, Commands]]] = {
    "model: header as bytes": _model(header_bytes),
    "model: header as values": _model(header_values),
    "model: metadata": _model(metadata),
    "model: tensors": _model(tensors),
    "delta: header as bytes": _delta(header_bytes),
    "delta: header as values": _delta(header_values),
    "delta: metadata": _delta(metadata),
    "delta: tensors": _delta(tensors),
    "manifest: bytes": _manifest(noisy),
    "manifest: values": _manifest(toml_changed),
    "config: bytes": _config(noisy),
    "config: values": _config(json_changed),
    "table": _table,
}
