"""What the pictures say, as plain data: of the whole, and of every prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import torch

from timecli import __version__
from timecli.drawing.balance import balances
from timecli.drawing.doubts import doubts
from timecli.drawing.judge import Judge
from timecli.drawing.likeness import between_seeds, likeness
from timecli.drawing.render import Settings
from timecli.drawing.verify import PAPER, Images, Score, Scores, demanded, mean, measured_by, missed
from timecli.editing.delta import Delta
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import Row, of_part, untested
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
        "length": origin.length,
        "states_of": origin.states_of or None,
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
    scores = _scores(table, judge, before, after) if judge else {}
    own = {name: scores.get(_named(name, after), {}) for name in after}
    each = {name: per_prompt(table, shares[name], judge, before, images) for name, images in after.items()}
    misses = {
        name: _missed(manifest, table, judge, before, images, own[name], scores, _worst(each[name])) if judge else []
        for name, images in after.items()
    }
    best = max(after, key=lambda name: _rank(own[name], misses[name]))
    return {
        "doubts": [*untested(manifest, table), *doubts(table, judge, before)] if judge else [],
        "scores": plain(scores) if judge else None,
        "balances": balances(manifest, judge, before, after) if judge else {},
        "thresholds": _thresholds(manifest),
        "best": best,
        "missed": misses[best] if all(misses.values()) else [],
        "prompts": each[best] if len(each) == 1 else _side_by_side(each, best),
    }


def _missed(
    manifest: Manifest,
    table: Sequence[Row],
    judge: Judge,
    before: Images,
    after: Images,
    edited: Mapping[str, Score],
    scores: Scores,
    worst: str | None,
) -> list[str]:
    """Sentences for thresholds that are not reached; of a joint edit, those of every manifest on its own prompts."""
    if not manifest.parts:
        return missed(manifest, edited, scores, worst)
    own = {part: measured_by(judge, of_part(table, part, manifest), before, after) for part in manifest.parts}
    return [sentence for part, found in own.items() for sentence in missed(part, found["edited"], found, worst)]


def _worst(prompts: Sequence[Mapping[str, Any]]) -> str | None:
    """The everyday prompt that changed most."""
    everyday = [one for one in prompts if one["kind"] == "everyday"]
    return min(everyday, key=lambda one: one["likeness"])["prompt"] if everyday else None


def _thresholds(manifest: Manifest) -> dict[str, float]:
    """By metric; of a joint edit by the manifest's name and the metric."""
    return {
        f"{part.name} {metric}" if manifest.parts else metric: getattr(part.verify, metric)
        for part in manifest.parts or (manifest,)
        for metric in demanded(part)
    }


def _named(name: str, after: Mapping[str, Images]) -> str:
    """What scores call an edit: by its name only where there are several."""
    return "edited" if len(after) == 1 else name


def _scores(table: Sequence[Row], judge: Judge, before: Images, after: Mapping[str, Images]) -> Scores:
    """Those of the unedited model, and of every edit."""
    scores: Scores = {}
    for name, images in after.items():
        one = measured_by(judge, table, before, images)
        edited = one.pop("edited")
        scores |= {**one, _named(name, after): edited}
    return scores


def _rank(scores: Mapping[str, Score], misses: Sequence[str]) -> tuple[int, float]:
    return -len(misses), mean(scores) if any(metric in scores for metric in PAPER) else 0.0


def _side_by_side(each: Mapping[str, Sequence[dict[str, Any]]], best: str) -> list[dict[str, Any]]:
    """The best edit's prompts, with the numbers of all edits under `edits`."""
    kept = ("forecast", "shown", "likeness")
    return [
        {**row, "edits": {name: {key: rows[i][key] for key in kept} for name, rows in each.items()}}
        for i, row in enumerate(each[best])
    ]


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

    `unedited` is that share of the pictures before, `shown` of those after.

    Likeness is the mean cosine to the pictures that are wanted, kept or reached; its yardstick is that of another seed.
    """
    found = []
    seen = (judge.seeing(before), judge.seeing(after)) if judge else None
    for row, share in zip(table, shares, strict=True):
        one: dict[str, Any] = {"kind": row.kind, "prompt": row.prompt, "destination": row.destination}
        one |= {"counts": row.counts, "forecast": share, "unedited": None, "shown": None}
        one |= {"likeness": None, "another_seed": None}
        if judge is not None and seen is not None:
            if row.destination:
                for key, images in (("unedited", before), ("shown", after)):
                    one[key] = fmean(judge.choose(images[row.prompt], (row.against or row.prompt, row.destination)))
            for key, cosines in (("likeness", likeness(row, *seen)), ("another_seed", between_seeds(row, seen[0]))):
                one[key] = fmean(cosines) if cosines else None
        found.append(one)
    return found
