"""A component's folder as its loaders see it: the same weights can lie there whole and in shards, in several variants.

diffusers asks for a variant by name (`fp16`) and follows that variant's index to its shards where there is one, else it
reads the variant's whole file. So one folder can hold many copies of a UNet, each of which some loader picks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timecli.errors import CheckpointError
from timecli.files.foreign import read_json, read_text
from timecli.files.safefile import PICKLES, SafeFile, open_file
from timecli.shown import amount

INDEX = re.compile(r"(?P<stem>.+)\.safetensors\.(?:index(?:\.(?P<variant>.+))?|(?P<older>.+)\.index)\.json")
"""An index's name: `x.safetensors.index.json`, with a variant `x.safetensors.index.fp16.json`, and in older files
`x.safetensors.fp16.index.json`."""
SHARD = re.compile(r"-\d+-of-(\d+)")
USUAL = ("diffusion_pytorch_model", "model")
"""How the files are called that diffusers and transformers read."""
OTHER_WEIGHTS = (*PICKLES, ".msgpack", ".h5", ".onnx", ".onnx_data", ".pb", ".gguf")
"""Endings of weights in forms that are not read here."""


@dataclass(frozen=True)
class Group:
    """One copy of a component's weights.

    Attributes:
        files: one, or the shards.
        stem: how the file is called without variant and number, `diffusion_pytorch_model`.
        variant: `fp16` for instance; empty for the plain one.
        sharded: whether it is in shards.
    """

    files: tuple[SafeFile, ...]
    stem: str = ""
    variant: str = ""
    sharded: bool = False

    @property
    def entries(self) -> dict[str, tuple[SafeFile, dict[str, Any]]]:
        """Every tensor's file and header entry, by name.

        Raises:
            CheckpointError: a name stands in two of the files; which of them counts depends on the loader.
        """
        found: dict[str, tuple[SafeFile, dict[str, Any]]] = {}
        for file in self.files:
            for name, entry in file.entries.items():
                if name in found:
                    raise CheckpointError(
                        f"{name} stands both in {found[name][0].path} and in {file.path}, which are shards of one "
                        "model; remove the one that does not belong to it."
                    )
                found[name] = file, entry
        return found

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape, by name."""
        return {name: tuple(entry["shape"]) for name, (_, entry) in self.entries.items()}

    def describe(self) -> dict[str, Any]:
        """What `timecli inspect` says of it."""
        form = amount(len(self.files), "shard") if self.sharded else "whole"
        return {"variant": self.variant or "plain", "form": form, "files": [str(file.path) for file in self.files]}


def groups(folder: Path) -> list[Group]:
    """Every copy of the weights in a component's folder: the usual names first, plain before variants, shards first.

    Raises:
        CheckpointError: an index cannot be read, or one of its shards is missing.
    """
    names = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    found = [group for path in names if (match := INDEX.fullmatch(path.name)) and (group := _indexed(path, match))]
    indexed = {file.path for group in found for file in group.files}
    found += _unindexed(path for path in names if path.suffix == ".safetensors" and path not in indexed)
    return sorted(
        found, key=lambda group: (group.stem not in USUAL, bool(group.variant), group.variant, not group.sharded)
    )


def leads_out(folder: Path) -> list[Path]:
    """Indexes that name files outside of their folder; they are not followed."""
    return [path for path in sorted(folder.glob("*.json")) if INDEX.fullmatch(path.name) and _outside(_shards(path))]


def other_weights(folder: Path) -> list[Path]:
    """Files with weights in forms that are not read here, pickles among them."""
    return [path for path in sorted(folder.iterdir()) if path.suffix in OTHER_WEIGHTS and not path.name.startswith(".")]


def _indexed(index: Path, match: re.Match[str]) -> Group | None:
    shards = _shards(index)
    if _outside(shards):
        return None
    for name in shards:
        if not (index.parent / name).exists():
            raise CheckpointError(
                f"{index} names {name}, which is missing; complete the download, or remove the index."
            )
    files = tuple(open_file(index.parent / name) for name in shards)
    return Group(files, match["stem"], match["variant"] or match["older"] or "", True)


def _shards(index: Path) -> list[str]:
    """The files that an index names, each once."""
    try:
        names = read_json(read_text(index, "an index", CheckpointError))["weight_map"].values()
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError("weight_map names no files")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index} is not an index of shards ({error}); download it again, or remove it."
        ) from error
    return sorted(set(names))


def _outside(names: Iterable[str]) -> bool:
    return any(Path(name).name != name for name in names)


def _unindexed(paths: Iterable[Path]) -> list[Group]:
    """Whole files, and shards that no index names, which belong together by their name without the number."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in paths:
        shard = SHARD.search(path.stem)
        found.setdefault((SHARD.sub("", path.stem), shard[1] if shard else ""), []).append(path)
    result = []
    for (name, total), same in found.items():
        stem, _, variant = name.partition(".")
        result.append(Group(tuple(map(open_file, same)), stem, variant, bool(total)))
    return result
