"""What a model's folder asks to be run: nothing of it is, and a folder that asks is refused before a library sees it.

Libraries run code of a folder, or fetch some, where a config names it. So configs are looked through as the libraries
read them, whatever else is in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from timecli.errors import CheckpointError
from timecli.files.foreign import read_text
from timecli.shown import brief

INDEX = "model_index.json"
"""The list of a pipeline's parts: for each the library and the class that it is of."""
CONFIG = re.compile(r".*config.*\.json|(modular_)?model_index\.json")
"""Files that libraries follow. A word list or an index of weights may hold any word, and asks for nothing."""
LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
"""Where a part's class may come from; the last is a folder of diffusers with its safety checker."""
ASKING = {
    "auto_map": "code of its own",
    "custom_pipeline": "code of its own",
    "custom_pipelines": "code of its own",
    "transformers_weights": "weights of another name",
    "audio_tokenizer": "another model",
    "base_model_name_or_path": "another model",
}
"""Keys of configs, at any depth, that make a library run or load what nobody named."""
KERNEL = "_implementation"
"""How keys end that name how attention is computed; a name with a slash is that of code to fetch."""


def require_none(folder: Path) -> None:
    """Refuse a folder whose configs, or those of the folders in it, ask for code or for files of others.

    Args:
        folder: of a model, a part of one, a tokenizer or a judge; what is no folder asks for nothing.

    Raises:
        CheckpointError: one asks, cannot be read, or is no list of parts.
    """
    for path in _configs(folder):
        try:
            config = json.loads(read_text(path, "a config", CheckpointError))
        except (ValueError, RecursionError):  # no library reads it, and whoever needs it says so
            continue
        for key, what in _asked(config):
            raise CheckpointError(
                f"{path}: {key} asks for {what}, and timecli runs no code and follows no names of a model's folder; "
                "use a copy without it, of a model that its libraries know themselves."
            )
        if path.name == INDEX and isinstance(config, dict):
            _require_known(path, config)


def _configs(folder: Path) -> Iterator[Path]:
    """The configs of a folder and of those in it, of parts that libraries load."""
    if not folder.is_dir():
        return
    parts = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    for part in (folder, *parts):
        names = sorted(path for path in part.iterdir() if CONFIG.fullmatch(path.name))
        # An adapter that lies alone is no part of the model.
        whole = any(path.name in ("config.json", INDEX) for path in names)
        yield from (path for path in names if whole or path.name != "adapter_config.json")


def _asked(value: Any) -> Iterator[tuple[str, str]]:
    """Every key in JSON that asks for something, with what it asks for."""
    parts: list[Any] = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            yield from ((key, ASKING[key]) for key in part if key in ASKING and part[key] is not None)
            yield from ((key, "code to fetch") for key in part if key.endswith(KERNEL) and "/" in str(part[key]))
            parts += part.values()
        elif isinstance(part, list):
            parts += part


def _require_known(path: Path, index: dict[str, Any]) -> None:
    """Refuse a list of parts that names other libraries than ours, or is none."""
    kind = index.get("_class_name")
    if isinstance(kind, list):
        raise CheckpointError(
            f"{path}: _class_name is {brief(kind)}, which asks for code of its own, and timecli runs no code of a "
            "model's folder; use a copy whose _class_name is a pipeline of diffusers."
        )
    for name, part in index.items():
        if not isinstance(part, list | dict):
            continue
        if not isinstance(part, list) or len(part) != 2 or not all(isinstance(one, str | None) for one in part):
            raise CheckpointError(
                f"{path}: {name} is {brief(part)}, and not a library and a class; copy the file again."
            )
        if part[0] is not None and part[0] not in LIBRARIES:
            raise CheckpointError(
                f"{path}: {name} asks for code of {part[0]!r}, and timecli runs no code but that of diffusers and "
                "transformers; use a copy whose parts are theirs."
            )
