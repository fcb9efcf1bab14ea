"""Which files of a model hold its UNet: the copies that are edited, and what a copy of the folder goes without.

A folder can hold a UNet many times over: plain and in variants, as moving averages in `unet_ema`, as a single file
beside the components, as a pickle. Some loader picks each of them, so each is edited or named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from timecli.errors import CheckpointError
from timecli.files.code import INDEX
from timecli.files.safefile import PICKLES, open_file
from timecli.models import layouts, streams
from timecli.models.variants import Group, groups, leads_out, other_weights

NETWORKS = ("unet", "transformer")
"""The folder of the network in a diffusers folder."""
SHOWN = 3
"""How many files a sentence names."""


@dataclass(frozen=True)
class Found:
    """The copies of a UNet that are edited, the one that diffusers loads first; `Checkpoint` explains the rest."""

    copies: tuple[Group, ...]
    left_out: tuple[Path, ...] = ()
    cautions: tuple[str, ...] = ()


def find(path: Path, ema: bool) -> Found:
    """Look through a single file or a folder.

    Args:
        path: a single file, a diffusers folder, or the folder of a UNet.
        ema: whether moving averages in a folder of their own are edited.

    Raises:
        CheckpointError: there is no UNet in safetensors form.
    """
    if not path.is_dir():
        return Found((Group((open_file(path),)),))
    main = next((path / name for name in NETWORKS if _is_network(path / name)), path)
    names = NETWORKS if main == path else (main.name,)
    first = _first(path, main)
    copies, unedited, unread = [first], [], []
    for folder in _folders(path):
        beside = folder == main or (folder.parent == path and folder.name.startswith(names))
        for group in (group for group in _readable(folder, beside) if group.files != first.files):
            if beside and _kind(group) is not None and _kind(group) == _kind(first):
                copies += [group] if ema or not _is_average(folder, group) else []
            elif _kind(group) or (beside and _has_part(group)):
                unedited += [file.path for file in group.files]
        if beside or folder == path:
            unedited += leads_out(folder)
            unread += other_weights(folder)
    edited = {file.path for group in copies for file in group.files}
    left = [file for file in dict.fromkeys([*unedited, *unread]) if file not in edited]
    cautions = [
        *_caution(
            [file for file in unedited if file not in edited], "another UNet, or a part of one, that is not edited"
        ),
        *_caution(unread, "weights in a form that is not opened here"),
    ]
    return Found(tuple(copies), tuple(left), tuple(cautions))


def _first(path: Path, main: Path) -> Group:
    """The copy that diffusers loads."""
    found = groups(main)
    if not found:
        for file in sorted(main.iterdir()):
            if file.suffix in PICKLES:
                open_file(file)  # refuses it, with the way out
        lacks = f"{path} is not a complete model: {main}" if main != path else f"{path}"
        raise CheckpointError(f"{lacks} holds no .safetensors file; {_instead(path)}.")
    if main == path and not (path / "config.json").exists():
        raise CheckpointError(f"{path} is a folder of files and not a model; give one file, {found[0].files[0].path}.")
    return found[0]


def _is_network(folder: Path) -> bool:
    """Whether a folder under a network's name can be one: a model may lie in a folder called "transformer"."""
    return folder.is_dir() and not (folder / INDEX).exists()


def _is_config(folder: Path) -> bool:
    """Whether a network's folder has its config alone."""
    return folder.is_dir() and not any(folder.glob("*.safetensors*"))


def _instead(path: Path) -> str:
    """What to give in place of a folder that is no model: a model that lies in it, or one folder deeper."""
    files = sorted(path.glob("*.safetensors"))
    folders = sorted(index.parent for depth in ("*", "*/*") for index in path.glob(f"{depth}/{INDEX}"))
    folders = [folder for folder in folders if not any(map(_is_config, (folder / name for name in NETWORKS)))]
    if len(files) == 1 or (files and not folders):
        found, what = files, "file"
    else:
        found, what = folders or sorted(path.glob("*/*.safetensors")), "folder" if folders else "file"
    if len(found) == 1:
        return f"give the {what} in it, {found[0]}"
    return f"give one of the {what}s in it, such as {found[0]}" if found else "use a complete model"


def _folders(path: Path) -> Iterator[Path]:
    """A folder and all below it, without hidden ones; links are followed, but not in circles."""
    seen: set[str] = set()
    for root, names, _ in os.walk(path, followlinks=True):
        real = os.path.realpath(root)
        names[:] = [] if real in seen else sorted(name for name in names if not name.startswith("."))
        if real not in seen:
            seen.add(real)
            yield Path(root)


def _readable(folder: Path, beside: bool) -> list[Group]:
    """The groups in a folder; what cannot be read is no mistake where no UNet belongs."""
    try:
        return [group for group in groups(folder) if group.shapes]
    except CheckpointError:
        if beside:
            raise
        return []


def _kind(group: Group) -> tuple[str, int] | None:
    """Family and text width of a UNet; None where a group is none, or not a whole one."""
    shapes = group.shapes
    try:
        family, prefix, spelling = layouts.find(shapes, "")
    except CheckpointError:
        return None
    return family.name, shapes[prefix + family.matrices[0].names[spelling]][-1]


def _has_part(group: Group) -> bool:
    names = {
        matrix.names[streams.DIFFUSERS]
        for family in (layouts.SD1, layouts.SDXL, *layouts.TRANSFORMERS)
        for matrix in family.matrices
    }
    return any(name in names for file in group.files for name in file.entries)


def _is_average(folder: Path, group: Group) -> bool:
    """Whether a copy's name says that it is a moving average: `unet_ema`, `x.ema.safetensors`, and not `non_ema`."""
    words = re.split(r"[._-]", f"{folder.name} {group.variant}".replace(" ", "_"))
    return "ema" in words and "non" not in words


def _caution(files: list[Path], what: str) -> list[str]:
    """One sentence for some files of a folder."""
    if not files:
        return []
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return [
        f"{', '.join(map(str, files[:SHOWN]))}{more}: {what}; a copy of the folder goes without, "
        "--in-place leaves it as it is."
    ]
