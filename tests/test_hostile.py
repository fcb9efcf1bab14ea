"""A thousand damaged files: each ends in a sentence, none in a traceback, a hang, or memory beyond the header."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from timecli.editing import delta as deltas
from timecli.errors import TimecliError
from timecli.files.safefile import open_file
from timecli.models.checkpoint import open_checkpoint

from .conftest import Run

COUNT = 1_000
NUMBERS: list[Any] = [
    -1,
    0,
    1,
    7,
    2**31,
    2**63,
    2**64,
    -(2**63),
    1.5,
    "1",
    None,
    True,
    [],
    {},
    [1],
    "F32",
    "é\x00",
    1e308,
]


def mutate(header: dict[str, Any], rng: random.Random) -> Any:
    """One of the ways in which a header can lie."""
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    entry = header[name]
    kind = rng.randrange(8)
    if kind == 0:
        entry["data_offsets"] = [rng.choice(NUMBERS), rng.choice(NUMBERS)]
    elif kind == 1:
        entry["shape"] = [rng.choice(NUMBERS) for _ in range(rng.randrange(5))]
    elif kind == 2:
        entry["dtype"] = rng.choice(["F64", "F16", "I64", "BOOL", "F8_E4M3", "Q4", 3, None])
    elif kind == 3:
        del entry[rng.choice(list(entry))]
    elif kind == 4:
        entry["data_offsets"] = header[rng.choice(names)]["data_offsets"]
    elif kind == 5:
        header[name] = rng.choice(NUMBERS)
    elif kind == 6:
        header["__metadata__"] = rng.choice(
            [*NUMBERS, {"timecli.edits": rng.choice(["[", "{}", "[1]", "null", '[{"name":[]}]'])}]
        )
    else:
        return rng.choice(NUMBERS)
    return header


def damaged(content: bytes, rng: random.Random) -> bytes:
    length = struct.unpack("<Q", content[:8])[0]
    text, data = content[8 : 8 + length], content[8 + length :]
    kind = rng.randrange(10)
    if kind < 6:
        header = json.dumps(mutate(json.loads(text), rng)).encode()
        return struct.pack("<Q", len(header)) + header + data
    if kind == 6:
        return (
            struct.pack("<Q", rng.choice([0, 1, length - 1, length + 1, 2**31, 2**40, 2**63, 2**64 - 1])) + text + data
        )
    if kind == 7:
        return content[: rng.randrange(len(content))]
    if kind == 8:
        place = rng.randrange(len(text))
        return content[:8] + text[:place] + bytes([rng.randrange(256)]) + text[place + 1 :] + data
    return content[:8] + text.replace(b'"dtype"', b'"dtype":"F32","dtype"', 1) + data


@pytest.fixture
def tiny(small: Path, run: Run, tmp_path: Path) -> tuple[bytes, bytes]:
    """A model file cut down to its names, and a delta."""
    from safetensors.torch import load_file, save

    tensors = {name: t[:1].contiguous() if "token_embedding" in name else t for name, t in load_file(small).items()}
    manifest = 'name = "x"\n[[edit]]\nsource = "A rose"\ndestination = "A blue rose"\n'
    (tmp_path / "m.toml").write_text(manifest)
    assert run("edit", tmp_path / "m.toml", small, "--delta", tmp_path / "x.delta").code == 0
    return save(tensors, {"format": "pt"}), (tmp_path / "x.delta").read_bytes()


def test_every_damaged_header_ends_in_a_sentence(tiny: tuple[bytes, bytes], tmp_path: Path) -> None:
    """Those that are still whole are read; the others are refused in one line."""
    path, rng, outcomes = tmp_path / "x.safetensors", random.Random(0), {"read": 0, "refused": 0}
    tracemalloc.start()
    for number in range(COUNT):
        whole = tiny[number % 2]
        path.write_bytes(damaged(whole, rng))
        try:
            if number % 2:
                deltas.load_delta(path)
            else:
                checkpoint = open_checkpoint(path)
                _ = checkpoint.edits
                list(checkpoint.projections())
            outcomes["read"] += 1
        except TimecliError as error:
            assert str(error) and "\n" not in str(error), error
            outcomes["refused"] += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcomes["refused"] > COUNT / 2 and outcomes["read"] > 0, outcomes
    assert peak < 50e6, "a header's lie about sizes must not be believed"


def test_cut_at_every_byte_of_its_header_a_file_is_refused(tiny: tuple[bytes, bytes], tmp_path: Path) -> None:
    content = tiny[1]
    path, stop = tmp_path / "x", 8 + struct.unpack("<Q", content[:8])[0]
    for cut in (*range(stop + 1), len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(TimecliError):
            open_file(path)
    path.write_bytes(content)
    open_file(path)  # the control


def test_the_command_line_says_it_too(run: Run, tiny: tuple[bytes, bytes], tmp_path: Path) -> None:
    rng = random.Random(1)
    for _ in range(50):
        (tmp_path / "x.safetensors").write_bytes(damaged(tiny[0], rng))
        done = run("inspect", tmp_path / "x.safetensors")
        assert done.code in (0, 2), done.err
        assert "Traceback" not in done.err and done.err.count("\n") <= 1
