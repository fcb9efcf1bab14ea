"""What a manifest gives: counted on pictures, or forecast from text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import fmean, harmonic_mean

import torch

from timecli.drawing.render import render
from timecli.drawing.verify import Images, compared, counted, missed
from timecli.editing import compiling, forecast
from timecli.editing.delta import Delta
from timecli.manifests.balances import worded
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import FOLLOW, LIKENESS, Row, rows
from timecli.measuring.rivals import Change
from timecli.measuring.schedule import Texts
from timecli.measuring.studio import Studio
from timecli.models.checkpoint import Checkpoint
from timecli.text.everyday import Everyday
from timecli.text.readers import TextEncoder

Watch = Callable[[int], AbstractContextManager[Callable[[float], None]]]
"""Shows how far a drawing of so many pictures is: gives the function that says how many more are finished."""
UNTOLD = 0.5
"""The share of pictures that is assumed where it cannot be forecast; no value of a search changes it."""


@dataclass
class Drawings:
    """What a manifest gives, counted on pictures.

    Attributes:
        watch: shows how far each drawing is.
        pictures: how many were drawn.
        before: what the judge sees in the unedited model's pictures, by prompt.
    """

    studio: Studio
    checkpoint: Checkpoint
    encoder: TextEncoder
    device: torch.device
    world: Callable[[Manifest], Everyday | None]
    watch: Watch
    pictures: int = 0
    before: dict[str, torch.Tensor] = field(default_factory=dict)

    def mean(self, manifest: Manifest) -> tuple[float, list[str]]:
        """Harmonic mean of generality, specificity, kept and reached, and the thresholds that are missed.

        Generality alone is 1 for every strength from which on all pictures show the destination, and kept the higher
        the smaller the strength; what the pictures of the destination look like, reached asks for.
        """
        table = [row for row in rows(manifest) if row.destination]
        after = self._drawn(manifest, list(dict.fromkeys(row.prompt for row in table)))
        before = self._unedited([row.oracle or row.prompt for row in table])
        judge = self.studio.judge
        scores = counted(table, judge.asked(after))
        scores |= compared(table, before.__getitem__, judge.seeing(after))["edited"]
        parts = [scores[name].mean for name in ("generality", "specificity", *LIKENESS)]
        return harmonic_mean([max(part, 0.0) for part in parts]), missed(manifest, scores)

    def _unedited(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the judge sees in the unedited model's pictures, each drawn once."""
        left = [prompt for prompt in prompts if prompt not in self.before]
        images = self._render(left) if left else {}
        self.before.update({prompt: self.studio.judge.seen(found) for prompt, found in images.items()})
        return self.before

    def share(self, manifest: Manifest) -> float:
        """How often the first description is drawn for the validation prompts."""
        return self.shares(manifest, [manifest])[0]

    def shares(self, edited: Manifest | None, balanced: Sequence[Manifest]) -> list[float]:
        """The shares of several balances, drawn with one edit, or with none."""
        asked = [
            [(prompt, worded(one, prompt)) for prompt in one.balance.validation] if one.balance else []
            for one in balanced
        ]
        answers = iter(self._answers(edited, [pair for pairs in asked for pair in pairs]))
        return [fmean(answer == 0 for _ in pairs for answer in next(answers)) for pairs in asked]

    def _answers(self, manifest: Manifest | None, asked: Sequence[tuple[str, Texts]]) -> list[list[int]]:
        answer = self.studio.judge.asked(self._drawn(manifest, [prompt for prompt, _ in asked]))
        return [answer(prompt, texts) for prompt, texts in asked]

    def _drawn(self, manifest: Manifest | None, prompts: Sequence[str]) -> Images:
        """The edited model's pictures."""
        if manifest is None:
            return self._render(prompts)
        delta = compiling.compile_edit(manifest, self.checkpoint, self.encoder, self.device, self.world(manifest))
        with self.studio.edited(Change(delta=delta)):
            return self._render(prompts)

    def _render(self, prompts: Sequence[str]) -> Images:
        settings = self.studio.settings
        with self.watch(len(prompts) * len(settings.seeds)) as tick:
            images = render(self.studio.pipeline, prompts, settings, tick)
        self.pictures += sum(map(len, images.values()))
        return images


@dataclass(frozen=True)
class Forecasts:
    """What a manifest will give, from text alone."""

    checkpoint: Checkpoint
    encoder: TextEncoder
    device: torch.device
    world: Everyday | None

    def mean(self, manifest: Manifest) -> float:
        """Harmonic mean of generality, specificity, kept and reached, which what goes past its destination lowers."""
        delta = self._compiled(manifest)
        metric = forecast.metric(self.checkpoint, delta.origin, self.encoder)
        table = [row for row in rows(manifest) if row.destination]
        pairs = [(row.prompt, row.destination or "") for row in table]
        shares = forecast.told(pairs, self.encoder, delta.operator, metric)
        shown = [UNTOLD if share is None else forecast.shown(share) for share in shares]
        staying = [row.prompt for row in table if row.kind not in FOLLOW]
        kept = forecast.kept(staying, self.encoder, delta.operator, metric)
        follow = [pair for row, pair in zip(table, pairs, strict=True) if row.kind in FOLLOW]
        reached = forecast.reached(follow, self.encoder, delta.operator, metric)
        return _mean(table, shown, fmean(kept), fmean(reached))

    def moved(self, manifest: Manifest) -> float:
        """How far the sources go, on average."""
        pairs = [(edit.source, edit.destination) for edit in manifest.edits]
        delta = self._compiled(manifest)
        metric = forecast.metric(self.checkpoint, delta.origin, self.encoder)
        return fmean(forecast.shares(pairs, self.encoder, delta.operator, metric))

    def _compiled(self, manifest: Manifest) -> Delta:
        """All trials have the same prompts, which are encoded once."""
        return compiling.compile_edit(manifest, self.checkpoint, self.encoder, self.device, self.world, fresh=False)


def _mean(table: Sequence[Row], shown: Sequence[float], *likeness: float) -> float:
    """Harmonic mean of generality, specificity (by how often each prompt shows its destination) and likenesses."""
    kinds: dict[str, list[float]] = {}
    for row, share in zip(table, shown, strict=True):
        kinds.setdefault(row.kind, []).append(share)
    return harmonic_mean([fmean(kinds["positive"]), 1 - fmean(kinds["negative"]), *(max(one, 0.0) for one in likeness)])
