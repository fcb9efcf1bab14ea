"""What the pictures say, as plain data: of the whole, and of every prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import torch

from timecli import __version__
from timecli.drawing.judge import Judge
from timecli.drawing.likeness import between_seeds, likeness
from timecli.drawing.render import Settings
from timecli.drawing.verify import PAPER, Images, Score, demanded, mean, measured_by, missed
from timecli.editing.delta import Delta
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import Row
from timecli.models.checkpoint import Checkpoint

Shares = Mapping[str, Sequence[float | None]]
"""How far every row goes, as it was forecast, of every edit by its name."""


def made(delta: Delta, checkpoint: Checkpoint) -> dict[str, Any]:
    """What was done to the model: everything that another run would need."""
    origin = delta.origin
    return {
        "lambda": sorted(set(origin.lambdas)),
        "strength": sorted(set(origin.strengths)) or [1.0],
        "everyday_weight": origin.everyday_weight or None,
        "everyday_list": origin.everyday or None,
        "matrices": list(origin.matrices),
        "layers": "all" if origin.layers is None else list(origin.layers),
        "clip_skip": origin.clip_skip,
        "rank": delta.operator.rank,
        "manifest_sha256": hashlib.sha256(origin.manifest.encode()).hexdigest(),
        "text_encoder": origin.encoder,
        "architecture": checkpoint.family.name,
        "compiled_with": origin.version,
    }


def settings(how: Settings, device: torch.device) -> dict[str, Any]:
    """How the pictures were drawn."""
    return {**asdict(how), "device": str(device), "timecli": __version__, "torch": torch.__version__}


def found(
    manifest: Manifest,
    table: Sequence[Row],
    judge: Judge | None,
    before: Images,
    after: Mapping[str, Images],
    shares: Shares,
) -> dict[str, Any]:
    """Scores, thresholds and what is below them, and every prompt.

    Of several edits, each misses its own thresholds, and all is well where one of them misses none; every prompt has
    the numbers of the best one by the harmonic mean, and those of each under `edits`.
    """
    named = {name: "edited" if len(after) == 1 else name for name in after}
    scores: dict[str, Any] = {}
    for name, images in after.items() if judge else ():
        assert judge is not None
        one = measured_by(judge, table, before, images)
        scores |= {**one, named[name]: one["edited"]}
        if named[name] != "edited":
            del scores["edited"]
    misses = {name: missed(manifest, scores[named[name]]) for name in after} if judge else {}
    best = max(after, key=lambda name: _rank(scores.get(named[name], {}), misses.get(name, ())))
    each = {name: per_prompt(table, shares[name], judge, before, images) for name, images in after.items()}
    rows = each[best]
    if len(after) > 1:
        keys = ("forecast", "shown", "likeness")
        rows = [{**row, "edits": {n: {k: each[n][i][k] for k in keys} for n in after}} for i, row in enumerate(rows)]
    failed = [] if any(not found for found in misses.values()) else misses.get(best, [])
    return {
        "scores": plain(scores) if judge else None,
        "thresholds": {metric: getattr(manifest.verify, metric) for metric in demanded(manifest)},
        "best": best,
        "missed": failed,
        "prompts": rows,
    }


def _rank(scores: Mapping[str, Score], misses: Sequence[str]) -> tuple[int, float]:
    return -len(misses), mean(scores) if any(metric in scores for metric in PAPER) else 0.0


def plain(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, Any]:
    """Scores of several models as plain data."""
    return {
        name: {metric: {"mean": score.mean, "std": score.std} for metric, score in found.items()}
        | ({"harmonic_mean": mean(found)} if any(metric in found for metric in PAPER) else {})
        for name, found in scores.items()
    }


def per_prompt(
    table: Sequence[Row], shares: Sequence[float | None], judge: Judge | None, before: Images, after: Images
) -> list[dict[str, Any]]:
    """What becomes of every prompt: forecast, and of the pictures the share that shows the destination, and likeness.

    Likeness is the mean cosine to the pictures that are wanted, kept or reached; its yardstick is that of another seed.
    """
    found = []
    seen = (judge.seeing(before), judge.seeing(after)) if judge else None
    for row, share in zip(table, shares, strict=True):
        one: dict[str, Any] = {"kind": row.kind, "prompt": row.prompt, "destination": row.destination}
        one |= {"counts": row.counts, "forecast": share, "shown": None, "likeness": None, "another_seed": None}
        if judge is not None and seen is not None:
            if row.destination:
                one["shown"] = fmean(judge.choose(after[row.prompt], (row.prompt, row.destination)))
            for key, cosines in (("likeness", likeness(row, *seen)), ("another_seed", between_seeds(row, seen[0]))):
                one[key] = fmean(cosines) if cosines else None
        found.append(one)
    return found
