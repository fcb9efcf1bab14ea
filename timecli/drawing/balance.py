"""How often the edited model draws the first of two descriptions (Orgad et al. 2023, §6)."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from timecli.drawing.judge import Judge
from timecli.drawing.verify import Images
from timecli.manifests.balances import counted, distance, interval, measured_as_balance, worded
from timecli.manifests.manifest import Manifest


def balances(
    manifest: Manifest, judge: Judge, before: Images, after: Mapping[str, Images]
) -> dict[str, dict[str, Any]]:
    """By manifest, the share of the first description in the unedited model's pictures and in those of every edit.

    Args:
        manifest: one, or a joint edit of several.
        judge: tells the descriptions apart.
        before: the unedited model's pictures, by prompt.
        after: those of every edit.
    """
    parts = [part for part in manifest.parts or (manifest,) if measured_as_balance(part)]
    return {part.name: _balance(part, judge, {"unedited": before, **after}) for part in parts}


def _balance(manifest: Manifest, judge: Judge, models: Mapping[str, Images]) -> dict[str, Any]:
    """One manifest's shares, each with Δ and with what it can truly be."""
    assert manifest.balance is not None
    about: dict[str, Any] = {"descriptions": [*manifest.balance.descriptions], "target": manifest.balance.target}
    for name, images in models.items():
        asked = [(prompt, worded(manifest, prompt)) for prompt in counted(manifest.balance)]
        answers = [answer == 0 for prompt, texts in asked for answer in judge.choose(images[prompt], texts)]
        share = fmean(answers)
        found = {"share": share, "delta": distance(share, manifest.balance.target)}
        about[name] = found | {"interval": [*interval(share, len(answers))], "pictures": len(answers)}
    return about
