"""Files of others: whether one can be read at all, what it is if it is not what was asked for, and its text."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timecli.errors import CheckpointError, TimecliError, one_line
from timecli.shown import brief

TEXT_LIMIT = 16 * 2**20
"""Bytes beyond which a file is no text that somebody wrote."""
DEPTH, DIGITS = 32, 1000
"""How deep the JSON of a file may nest, and how long a whole number in it may be."""
START = 4096
"""Bytes that tell what a file is."""

ARCHIVE = "an archive; unpack it, and give the .safetensors file that is in it"
PAGE = "a web page, not the file itself; download it with the button or the link that is for the file"
PICTURE = "a picture; give the model's own file"
POINTER = b"version https://git-lfs.github.com/spec/v1"
"""How a file begins that stands for one that Git LFS keeps."""
MARKS = (
    # what a file begins with -> what it is, and the way out
    (
        POINTER,
        "a Git LFS pointer, which stands for the file; run `git lfs pull` in its repository",
    ),
    (b"GGUF", "a GGUF file, whose weights are quantised; use the .safetensors file that it was made from"),
    (b"PK\x03\x04", ARCHIVE),
    (b"\x1f\x8b", ARCHIVE),
    (b"BZh", ARCHIVE),
    (b"\xfd7zXZ", ARCHIVE),
    (b"7z\xbc\xaf", ARCHIVE),
    (b"Rar!", ARCHIVE),
    (b"\x28\xb5\x2f\xfd", ARCHIVE),
    (b"\x89HDF", "an HDF5 file, as Keras saves it; use the model in .safetensors form"),
    (b"\x89PNG", PICTURE),
    (b"\xff\xd8\xff", PICTURE),
    (b"\0" * 64, "full of zeros where it should begin, as an unfinished download is; download or copy it again"),
)
ADDRESS = re.compile(r"https?:/")
"""How an address begins that was given for a path, which makes one slash of two."""
WINDOWS = re.compile(r"([A-Za-z]):[\\/]+(.*)")
"""A path with a drive, which only Windows has."""
HUB = re.compile(r"[\w.-]+/[\w.-]+")
OURS = (".toml", ".safetensors", ".csv", ".txt", ".yaml")
"""Endings that no model's name on a hub has."""
ENCODINGS = (
    # byte order mark -> encoding
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def require_file(path: Path, error: type[TimecliError], missing: str = "does not exist") -> int:
    """Refuse what cannot be read as a file: a folder, a pipe (reading would wait for ever), a device.

    Returns:
        Its size in bytes.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            missing = f"is a link to {os.readlink(path)}, which does not exist"
        raise error(f"{path} {missing}{elsewhere(path)}.") from None
    except (OSError, ValueError) as problem:
        raise error(f"{path} cannot be read: {getattr(problem, 'strerror', None) or problem}.") from problem
    if stat.S_ISDIR(status.st_mode):
        raise error(f"{path} is a folder; give a file.")
    if not stat.S_ISREG(status.st_mode):
        pipe = stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)
        raise error(f"{path} is a {'pipe' if pipe else 'device'}, not a file; save what comes from it and give that.")
    return status.st_size


def require_no_cache(folder: Path) -> None:
    """Refuse a folder of the hub's cache around the one that is meant, a snapshot, and name that.

    Raises:
        CheckpointError: it is one.
    """
    home = folder.parent if folder.name == "snapshots" else folder
    snapshots = [one for one in sorted((home / "snapshots").glob("*")) if one.is_dir()]
    if not snapshots or not (home / "blobs").is_dir():
        return
    main = home / "refs" / "main"
    current = main.read_text(errors="replace").strip() if main.is_file() else ""
    best = next((one for one in snapshots if one.name == current), snapshots[-1])
    raise CheckpointError(f"{folder} is a model's folder in the hub's cache; give the snapshot in it, {best}.")


def elsewhere(path: Path) -> str:
    """What a name that is no file here may be, and what to do then."""
    if ADDRESS.match(str(path)):
        return "; it is an address, and only files are read: download it and give the file"
    if HUB.fullmatch(str(path)) and path.suffix not in OURS and not path.parent.exists():
        return f"; if it is a model on the Hugging Face hub, run `hf download {path} --local-dir DIR` and give DIR"
    if str(path).startswith("~"):
        return f"; in quotes ~ is not your home folder, so write {os.path.expanduser(path)}"
    if os.name != "nt" and (drive := WINDOWS.fullmatch(str(path))):
        rest = re.sub(r"[\\/]+", "/", drive[2])
        return f"; it is a path of Windows, which WSL has as /mnt/{drive[1].lower()}/{rest}"
    return ""


def read(path: Path, error: type[TimecliError]) -> bytes:
    """A file that should be text: its bytes, of a larger file no more than `TEXT_LIMIT` and one."""
    require_file(path, error, "cannot be read: No such file or directory")
    try:
        with path.open("rb") as file:
            return file.read(TEXT_LIMIT + 1)
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}.") from problem


def read_text(path: Path, what: str, error: type[TimecliError]) -> str:
    """`read` and `decoded`."""
    return decoded(read(path, error), path, what, error)


def decoded(content: bytes, path: Path, what: str, error: type[TimecliError]) -> str:
    """What `read` found, as text.

    Args:
        content: the bytes.
        path: where they come from.
        what: what they should be: "a manifest".
        error: what to raise.

    Raises:
        TimecliError: of that kind: it is no text, or text in another encoding than UTF-8.
    """
    if found := identified(content[:START]):
        raise error(f"{path} is {found}.")
    if len(content) > TEXT_LIMIT:
        raise error(f"{path} is too large for {what}; give another file.")
    try:
        text, place = content.decode("utf-8-sig"), content.find(b"\0")
    except UnicodeDecodeError as problem:
        text, place = "", problem.start
    if place < 0:
        return text
    known = _encoding(content)
    guess = {"UTF-16": "in UTF-16, as PowerShell's > writes it", "LATIN1": "perhaps in LATIN1"}.get(
        known, f"in {known}"
    )
    save = f"save it as UTF-8 in an editor, or with `iconv -f {known} -t UTF-8`"
    way_out = f" but {guess}; {save}" if known else ""
    raise error(f"{path} is not {what} in UTF-8 text (byte {place}){way_out}.")


def _encoding(content: bytes) -> str:
    """The encoding of text that is not UTF-8; empty for what is no text."""
    for mark, name in ENCODINGS:
        if content.startswith(mark):
            return name
    if b"\0" in content:
        zeros = content.count(b"\0") / len(content)
        return "UTF-32" if 0.7 < zeros < 0.8 else "UTF-16" if 0.4 < zeros < 0.6 else ""
    return "" if any(byte < 32 and byte not in b"\t\n\r\f" for byte in content) else "LATIN1"


def identified(start: bytes) -> str | None:
    """What a file is that begins so and is neither a model nor text, with the way out; None if that is not known."""
    for mark, what in MARKS:
        if start.startswith(mark):
            return what
    if start[257:262] == b"ustar":
        return ARCHIVE
    text = start.decode("utf-8", "ignore").lstrip("\ufeff").lstrip()[:9].lower()
    return PAGE if text.startswith(("<!doctype", "<html", "<head", "<?xml", "<error")) else None


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so was meant to be safetensors: the length of its header, and the header's JSON."""
    return start[8:9] == b"{" and b"\0" in start[:8]


def is_delta(start: bytes) -> bool:
    """Whether a file that begins so is a delta, whose metadata comes first."""
    return is_safetensors(start) and b'"timecli.delta"' in start[:START]


def is_model(start: bytes) -> bool:
    """Whether a file that begins so is a model, of whatever form."""
    return is_safetensors(start) or start.startswith((b"GGUF", b"PK\x03\x04", b"\x80"))


def read_json(text: str | bytes) -> Any:
    """Strict JSON: no NaN or infinity, no half letters, no towers of lists.

    Raises:
        ValueError: it is not that.
    """
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
        _require_shallow(value, DEPTH)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeError as error:
        raise ValueError("it holds something else than letters") from error
    return value


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"it has a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"it has {text}, which is no number")
    return value


def _require_shallow(value: Any, depth: int) -> None:
    if not depth:
        raise ValueError("it is nested too deeply")
    parts: Sequence[Any] = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        _require_shallow(part, depth - 1)


def read_config(path: Path) -> dict[str, Any]:
    """A config file, which holds a JSON object.

    Raises:
        CheckpointError: it cannot be read, or is something else.
    """
    try:
        table = read_json(read_text(path, "a config", CheckpointError))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({one_line(error)}); copy it again.") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{path} is {brief(table)}, not a config; copy it again.")
    return table
