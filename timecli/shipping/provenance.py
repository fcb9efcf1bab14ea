"""What an edited file says of itself: to timecli, to readers of Stability AI's ModelSpec 1.0.1, and to A1111.

No clock and no path, so that the same command gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from timecli.editing.delta import Delta
from timecli.files.foreign import read_json
from timecli.models import carried
from timecli.models.carried import MADE
from timecli.models.checkpoint import EDITS, Checkpoint
from timecli.models.maps import NOISE, Network

TYPE = "timecli"
"""What a merge recipe is called that holds edits."""


def record(
    delta: Delta, base: str, made: str, strength: float, recipe: bool = True, averages: bool = True
) -> dict[str, Any]:
    """One edit that a file carries, with what it takes to know it again and to take it back.

    Args:
        delta: the edit.
        base: hash of the maps before.
        made: hash of the maps in the file that carries the record, or of an adapter's tensors.
        strength: s in W' = W (I + s D).
        recipe: whether manifest and token ids are kept.
        averages: whether moving averages were edited, too, where there are any.
    """
    origin = delta.origin
    prompts = {"manifest": origin.manifest, "tokens": [list(pair) for pair in origin.tokens]}
    return {
        "name": origin.name,
        "version": origin.version,
        "lambdas": list(origin.lambdas),
        "encoder": origin.encoder,
        "base": base,
        MADE: made,
        "matrices": list(origin.matrices),
        "layers": None if origin.layers is None else list(origin.layers),
        "streams": list(delta.operators),
        "strength": strength,
        "strengths": list(origin.strengths),
        "factors": list(origin.factors),
        "everyday": origin.everyday,
        "everyday_weight": origin.everyday_weight,
        "norm": delta.operator.norm,
        "sketch": [value for operator in delta.operators.values() for value in operator.sketch],
        "averages": averages,
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
        "architecture": own.get("modelspec.architecture", architecture(checkpoint)),
        "implementation": own.get("modelspec.implementation", _implementation(checkpoint)),
        "title": f"{title} + {names}",
        "merged_from": title,
    }
    recipe = {"type": TYPE, "primary_model_hash": sha256, "edits": _steps(records)}
    parents = _parsed(own, "sd_merge_models") or {}
    if sha256:
        parents[sha256] = {"name": title, "sd_merge_recipe": _parsed(own, "sd_merge_recipe")}
    return {
        "format": "pt",
        **{f"modelspec.{key}": value for key, value in spec.items() if value},
        "sd_merge_recipe": json.dumps(recipe, sort_keys=True),
        "sd_merge_models": json.dumps(parents, sort_keys=True),
        EDITS: json.dumps([*checkpoint.edits, *records], sort_keys=True),
    }


def restored(checkpoint: Checkpoint, count: int, made: str) -> dict[str, str | None]:
    """Header entries of a copy of `checkpoint` without its last `count` edits; None for those that it goes without.

    The last edit that stays is bound to the tensors that are written, `made`, if it was true of the ones before.

    What other edits and other tools have written stays. The title is the original's again; what the original said of
    its own origin (`modelspec.merged_from`) is not known any more.
    """
    own, edits = checkpoint.places[0].file.metadata, checkpoint.edits
    kept, gone = edits[: len(edits) - count], edits[len(edits) - count :]
    if kept and carried.held(checkpoint)[len(kept) - 1]:
        kept = [{**entry, MADE: made} if carried.same_step(entry, kept[-1]) else entry for entry in kept]
    found: dict[str, str | None] = {EDITS: json.dumps(kept, sort_keys=True) if kept else None}
    if "modelspec.title" in own:
        title = _without(own["modelspec.title"], gone)
        found |= {"modelspec.title": title, "modelspec.merged_from": _without(title, kept[-1:]) if kept else None}
    recipe, parents = _parsed(own, "sd_merge_recipe") or {}, _parsed(own, "sd_merge_models") or {}
    if recipe.get("type") == TYPE:
        parent = parents.pop(str(recipe.get("primary_model_hash")), None) if not kept else None
        earlier = parent.get("sd_merge_recipe") if isinstance(parent, dict) else None
        if kept:
            earlier = {"type": TYPE, "primary_model_hash": None, "edits": _steps(kept)}
        found["sd_merge_recipe"] = json.dumps(earlier, sort_keys=True) if earlier else None
        found["sd_merge_models"] = json.dumps(parents, sort_keys=True) if kept or parents else None
    return found


def _without(title: str, records: Sequence[Mapping[str, Any]]) -> str:
    """A title from before some edits, whose names stand at its end."""
    for entry in reversed(records):
        joined = next((mark for mark in (" + ", ", ") if title.endswith(f"{mark}{entry['name']}")), None)
        title = title if joined is None else title.removesuffix(f"{joined}{entry['name']}")
    return title


def _steps(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Edits as a merge recipe has them."""
    return [{key: entry.get(key) for key in ("name", "lambdas", "strength")} for entry in records]


def _parsed(own: Mapping[str, str], key: str) -> dict[str, Any] | None:
    """A JSON object from somebody else's metadata, if it is one."""
    try:
        value = read_json(own.get(key, "null"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def architecture(checkpoint: Network) -> str:
    """What ModelSpec calls the model, where its tensors prove it; else nothing, since readers trust it."""
    return checkpoint.family.short if checkpoint.channels == NOISE else ""


def _implementation(checkpoint: Checkpoint) -> str:
    if checkpoint.is_folder:
        return "diffusers"
    return "" if checkpoint.family.by_pipeline else "https://github.com/Stability-AI/generative-models"
