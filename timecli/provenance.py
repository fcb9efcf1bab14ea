"""What an edited file says of itself: to timecli, to readers of Stability AI's ModelSpec 1.0.1, and to A1111.

No clock and no path, so that the same command gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from timecli.checkpoint import EDITS, Checkpoint
from timecli.delta import Delta
from timecli.foreign import read_json

RESOLUTIONS = {768: "512x512", 2048: "1024x1024"}
"""What SD 1 and SDXL were trained at, by text width; SD 2 comes in two sizes that the tensors do not tell apart."""


def record(delta: Delta, base: str, strength: float, recipe: bool = True) -> dict[str, Any]:
    """One edit that a file carries; `base` is the hash of the matrices before. Without `recipe`, no prompts."""
    origin = delta.origin
    prompts = {"manifest": origin.manifest, "tokens": [list(pair) for pair in origin.tokens]}
    return {
        "name": origin.name,
        "version": origin.version,
        "lambdas": list(origin.lambdas),
        "encoder": origin.encoder,
        "base": base,
        "strength": strength,
        **(prompts if recipe else {}),
    }


def metadata(checkpoint: Checkpoint, records: Sequence[Mapping[str, Any]], sha256: str | None = None) -> dict[str, str]:
    """Header entries of an edited copy of `checkpoint`, over those that it has.

    Args:
        checkpoint: the model before.
        records: the edits, in the order in which they are made.
        sha256: of the model's whole file, if it is known.
    """
    own = checkpoint.places[0].file.metadata
    title = own.get("modelspec.title") or checkpoint.path.stem
    names = ", ".join(str(entry["name"]) for entry in records)
    spec = {
        "sai_model_spec": "1.0.1",
        "architecture": own.get("modelspec.architecture", checkpoint.family.short),
        "implementation": own.get("modelspec.implementation", _implementation(checkpoint)),
        "title": f"{title} + {names}",
        "merged_from": title,
    }
    if resolution := own.get("modelspec.resolution") or RESOLUTIONS.get(checkpoint.width):
        spec["resolution"] = resolution
    steps = [{key: entry[key] for key in ("name", "lambdas", "strength")} for entry in records]
    recipe = {"type": "timecli", "primary_model_hash": sha256, "edits": steps}
    parents = _parsed(own, "sd_merge_models") or {}
    if sha256:
        parents[sha256] = {"name": title, "sd_merge_recipe": _parsed(own, "sd_merge_recipe")}
    return {
        "format": "pt",
        **{f"modelspec.{key}": value for key, value in spec.items()},
        "sd_merge_recipe": json.dumps(recipe, sort_keys=True),
        "sd_merge_models": json.dumps(parents, sort_keys=True),
        EDITS: json.dumps([*checkpoint.edits, *records], sort_keys=True),
    }


def _parsed(own: Mapping[str, str], key: str) -> dict[str, Any] | None:
    """A JSON object from somebody else's metadata, if it is one."""
    try:
        value = read_json(own.get(key, "null"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _implementation(checkpoint: Checkpoint) -> str:
    return "diffusers" if checkpoint.is_folder else "https://github.com/Stability-AI/generative-models"
