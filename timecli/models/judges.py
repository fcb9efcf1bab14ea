"""Folders of judges: where one is looked for, and what is refused before anything of it is loaded."""

from __future__ import annotations

import shlex
from pathlib import Path

from timecli.errors import CheckpointError
from timecli.files import code
from timecli.files.foreign import elsewhere, read_config, require_no_cache
from timecli.shown import brief

FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json")
"""Of a CLIP model, beside `merges.txt` and its weights."""
ADVICE = (
    "get one with `hf download openai/clip-vit-large-patch14 model.safetensors merges.txt "
    f"{' '.join(FILES)} --local-dir clip` (1.7 GB) and give --judge clip"
)
"""How a judge is got that has safetensors weights."""
CONVERT = (
    "import sys; from transformers import CLIPModel as C; p = sys.argv[1]; C.from_pretrained(p).save_pretrained(p)"
)
"""Writes safetensors weights beside a judge's pickle; transformers opens it as one that holds tensors alone."""


def judge_beside(model: Path) -> Path:
    """Where a model's judge is looked for: in its folder, else beside it."""
    own = model / "judge"
    return own if own.is_dir() else model.parent / "judge"


def require_judge(folder: Path) -> None:
    """Refuse a folder that is no judge's, has no weights that are read, or asks for code, before anything is loaded."""
    if not folder.exists():
        raise CheckpointError(f"{folder} does not exist{elsewhere(folder) or f'; {ADVICE}'}.")
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file, and --judge takes the folder that it is in: {folder.parent}.")
    require_no_cache(folder)
    code.require_none(folder)
    if not (folder / "config.json").exists():
        raise CheckpointError(
            f"{folder} has no config.json; --judge takes a CLIPModel folder as transformers saves it: {ADVICE}."
        )
    kind = read_config(folder / "config.json").get("model_type", "clip")
    if kind != "clip":
        raise CheckpointError(
            f"{folder} is a model of the type {brief(kind)}, and --judge takes the type 'clip': {ADVICE}."
        )
    pickles = sorted(folder.glob("*.bin"))
    if pickles and not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} has its weights in {pickles[0].name} alone, a pickle, which can run code when it is opened, so "
            f'it is not read; where you trust it, convert it with `python -c "{CONVERT}" {shlex.quote(str(folder))}`, '
            f"or {ADVICE}."
        )
