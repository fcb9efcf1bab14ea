"""What an output may take the place of: nothing that the command reads, and nothing that it was not told to replace."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from timecli.errors import OutputError
from timecli.files.parts import real
from timecli.files.safefile import PICKLES

MODEL_FILE = re.compile(
    r"model_index\.json|[^/]+/(?:"
    r"(?:diffusion_pytorch_)?model(?:[.-][\w.-]+)?\.safetensors(?:\.index(?:\.\w+)?\.json)?"
    r"|(?:config|generation_config|scheduler_config|preprocessor_config|processor_config)\.json"
    r"|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|vocab\.json|merges\.txt)"
)
"""Paths in a diffusers folder, as diffusers and transformers write them."""
MARKS = ("model_index.json", "config.json", "unet")
"""What a model's folder has one of, that of a whole pipeline or of a UNet alone."""
HASH = re.compile(r"(sha256-)?([0-9a-f]{40}|[0-9a-f]{64})")
"""Names of files in stores that others share, as the hub's cache, Git LFS and Ollama have them: by what is in them."""
NAMED = 5
"""How many files a sentence names."""

Identity = tuple[int, int]


def check_target(target: Path, sources: Iterable[Path], force: bool, size: int, folder: bool = False) -> None:
    """Refuse a target before any work is done.

    Args:
        target: where the result should go.
        sources: what is read; nothing of it may be replaced.
        force: whether another existing target may be.
        size: bytes that the result takes.
        folder: whether the result is a folder.

    Raises:
        OutputError: it exists, is or lies in or holds one of the sources, its folder is missing, or the disk is full.
    """
    place = real(target)
    if target.suffix in PICKLES and not folder:
        raise OutputError(f"{target} would be safetensors under the name of a pickle; call it .safetensors.")
    if not place.parent.is_dir():
        raise OutputError(f"{place.parent if target.is_symlink() else target.parent} is not a folder; create it first.")
    if folder and place in (here := real(Path.cwd()), *here.parents):
        raise OutputError(f"{target} holds the folder that you are in; choose another output.")
    require_apart([target], sources)
    require_replaceable(target, force, folder)
    _require_no_store(target, "choose another output")
    require_space(target, size)


def require_replaceable(target: Path, force: bool, folder: bool = False) -> None:
    """Refuse a target that exists without `force`, and one that is no file (or no model folder) at any rate."""
    if not target.exists():
        return
    if not (any((target / name).exists() for name in MARKS) if folder else target.is_file()):
        raise OutputError(
            f"{target} exists and is not a {'model folder' if folder else 'file'}; choose another output."
        )
    if not force:
        raise OutputError(f"{target} already exists; use --force to replace it.")


def require_editable(files: Iterable[Path]) -> None:
    """Refuse to edit files in place that are kept as they are.

    Raises:
        OutputError: one is called by the hash of its content, or is read-only.
    """
    for file in files:
        way_out = "leave it as it is, and write the edited model with -o"
        _require_no_store(file, way_out)
        if not real(file).stat().st_mode & 0o222:
            raise OutputError(f"{file} is read-only; {way_out}, or make it writable.")


def _require_no_store(target: Path, way_out: str) -> None:
    place = real(target)
    if HASH.fullmatch(place.name):
        raise OutputError(
            f"{target} is {place}, which is called by the hash of its content and may be shared by other models; "
            f"{way_out}."
        )


def require_no_link(target: Path) -> None:
    """Refuse a link under a name that the user did not give: somebody else may have put it there, and to anywhere."""
    if target.is_symlink():
        raise OutputError(
            f"{target} is a link to {os.readlink(target)}, and only links that you name yourself are followed; remove "
            "it, or choose another output."
        )


def require_space(target: Path, size: int) -> None:
    """Refuse an output of `size` bytes for which the disk has no room."""
    free = shutil.disk_usage(real(target).parent).free
    if free < size:
        raise OutputError(
            f"{target.parent} has {free / 1e9:.2f} GB free and the output needs {size / 1e9:.2f} GB; make room."
        )


def require_apart(targets: Collection[Path], sources: Iterable[Path]) -> None:
    """Refuse targets of which one is a source, lies in one or holds one, through links of either kind.

    Raises:
        OutputError: it is so.
    """
    for source in filter(Path.exists, sources):
        inside = [source, *(entries(source) if source.is_dir() else ())]
        known = {_identity(entry) for entry in inside if entry.exists()}
        outside = {one for entry in inside if entry == source or entry.is_symlink() for one in _around(entry)}
        for target in targets:
            if known.intersection(_around(target)):
                raise OutputError(f"{target} is an input of this command; choose another output.")
            if target.exists() and _identity(target) in outside:
                raise OutputError(f"{target} holds {source}, an input of this command; choose another output.")


def _around(path: Path) -> list[Identity]:
    """What is at a path and the folders around it: where it leads, and where the link is that leads there."""
    own, link = real(path), real(path.parent)
    return [_identity(one) for one in (own, *own.parents, link, *link.parents) if one.exists()]


def _identity(path: Path) -> Identity:
    status = path.stat()
    return status.st_dev, status.st_ino


def entries(folder: Path) -> Iterator[Path]:
    """All that is in a folder and its folders, links followed, but none that leads back to a folder around it."""
    return _entries(folder, frozenset(_around(folder)))


def _entries(folder: Path, above: frozenset[Identity]) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir():
            yield entry
        elif _identity(entry) not in above:
            yield entry
            yield from _entries(entry, above | {_identity(entry)})


def require_model_only(folder: Path, output: Collection[str]) -> None:
    """Refuse to replace a folder that holds what neither the output nor any model folder has.

    Args:
        folder: what would be replaced.
        output: the output's files, relative to it.

    Raises:
        OutputError: naming what would go.
    """
    own = {name.split("/")[0] for name in output if "/" in name}
    foreign: dict[str, None] = {}
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in sorted([*files, *links]):
            path = (Path(root) / name).relative_to(folder).as_posix()
            if path not in output and not MODEL_FILE.fullmatch(path):
                first = path.split("/")[0]
                foreign[path if first in own else first] = None
    if foreign:
        names = sorted(foreign)
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise OutputError(
            f"{folder} holds more than a model, and --force would remove it: {', '.join(names[:NAMED])}{more}; move "
            "that away or choose another output."
        )
