"""What ComfyUI lists: files in the folders of its `models`, and in those that its extra_model_paths.yaml names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from timecli.errors import CheckpointError, one_line
from timecli.files.foreign import read_text
from timecli.files.safefile import PICKLES

MODELS, TEXTS = ("checkpoints", "diffusion_models", "unet"), ("text_encoders", "clip")
"""Folders of models and of networks alone, and of text encoders."""
EXTRA = "extra_model_paths.yaml"
READ = (".safetensors", ".sft")
"""How files end that are read."""
ENDINGS = (*READ, ".gguf", *PICKLES)
"""How files end in which ComfyUI has models."""


def located(home: Path, model: Path) -> Path:
    """A model by its path, or by the name under which ComfyUI lists it.

    Raises:
        CheckpointError: the folder is not ComfyUI's, or the name is nowhere or in two places.
    """
    if not (home / "models").is_dir():
        near = (one for one in (home / "ComfyUI", home.parent) if (one / "models").is_dir())
        given = next((f", and {one} has it" for one in near if home.is_dir()), "")
        raise CheckpointError(
            f"{home} has no folder models{given}; --comfyui takes ComfyUI's folder, with its main.py."
        )
    if model.exists():
        return model
    found = [path for folder in _folders(home, MODELS) if (path := folder / model).exists()]
    if not found:
        raise CheckpointError(
            f"{model} does not exist, nor does {home} list it among its {' and '.join(MODELS)}; give its path, or its "
            "name with folder and ending, as a loader in ComfyUI shows it."
        )
    if len({path.resolve() for path in found}) > 1:
        raise CheckpointError(f"{model} is both {found[0]} and {found[1]}; give the path of the one that is meant.")
    return found[0]


def text_encoders(home: Path) -> list[Path]:
    """Every file among the text encoders, as ComfyUI lists them: also deeper, and behind links.

    Raises:
        CheckpointError: its list of other folders cannot be read.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for folder in _folders(home, TEXTS):
        for place, folders, names in os.walk(folder, followlinks=True):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            if (real := os.path.realpath(place)) in seen:
                folders.clear()
                continue
            seen.add(real)
            found += [Path(place) / one for one in sorted(names) if one.endswith(ENDINGS) and not one.startswith(".")]
    return found


def _folders(home: Path, names: Sequence[str]) -> list[Path]:
    """ComfyUI's own folders of these names, and those that its list adds."""
    own, path = [home / "models" / name for name in names], home / EXTRA
    if not path.exists():
        return own
    import yaml  # type: ignore[import-untyped]

    try:
        sections = yaml.safe_load(read_text(path, "a list of folders", CheckpointError)) or {}
        for section in filter(None, sections.values()):
            base = home / Path(section.get("base_path", "")).expanduser()
            lines = [line.strip() for name in names for line in section.get(name, "").splitlines()]
            own += [base / line for line in lines if line]
    except (yaml.YAMLError, AttributeError, TypeError, RuntimeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no list of folders as ComfyUI reads it ({one_line(error)}); mend or rename it."
        ) from error
    return own
