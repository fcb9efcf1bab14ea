"""What a manifest gives: counted on pictures, or forecast from text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, harmonic_mean

import torch

from timecli.drawing.render import render
from timecli.editing import compiling, forecast
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import rows
from timecli.measuring.rivals import Change
from timecli.measuring.schedule import Texts, worded
from timecli.measuring.studio import Studio
from timecli.models.checkpoint import Checkpoint
from timecli.text.encoding import TextEncoder
from timecli.text.everyday import Everyday


@dataclass
class Drawings:
    """What a manifest gives, counted on pictures; `pictures` is how many were drawn."""

    studio: Studio
    encoder: TextEncoder
    device: torch.device
    world: Callable[[Manifest], Everyday | None]
    pictures: int = 0

    def mean(self, manifest: Manifest) -> float:
        """Harmonic mean of generality and specificity."""
        table = [row for row in rows(manifest) if row.kind in ("positive", "negative")]
        answers = self._answers(manifest, [(row.prompt, (row.prompt, row.destination or "")) for row in table])
        right = {
            kind: fmean(
                fmean(answer == wanted for answer in found)
                for row, found in zip(table, answers, strict=True)
                if row.kind == kind
            )
            for kind, wanted in (("positive", 1), ("negative", 0))
        }
        return harmonic_mean(right.values())

    def share(self, manifest: Manifest) -> float:
        """How often the first description is drawn for the validation prompts."""
        return self.shares(manifest, [manifest])[0]

    def shares(self, edited: Manifest, balanced: Sequence[Manifest]) -> list[float]:
        """The shares of several balances, drawn with one edit."""
        asked = [
            [(prompt, worded(one, prompt)) for prompt in one.balance.validation] if one.balance else []
            for one in balanced
        ]
        answers = iter(self._answers(edited, [pair for pairs in asked for pair in pairs]))
        return [fmean(answer == 0 for _ in pairs for answer in next(answers)) for pairs in asked]

    def _answers(self, manifest: Manifest, asked: Sequence[tuple[str, Texts]]) -> list[list[int]]:
        delta = compiling.compile_edit(manifest, self.encoder, self.device, self.world(manifest))
        prompts = list(dict.fromkeys(prompt for prompt, _ in asked))
        with self.studio.edited(Change(delta=delta)):
            images = render(self.studio.pipeline, prompts, self.studio.settings, lambda _: None)
        self.pictures += sum(map(len, images.values()))
        return [self.studio.judge.choose(images[prompt], texts) for prompt, texts in asked]


@dataclass(frozen=True)
class Forecasts:
    """What a manifest will give, from text alone.

    Attributes:
        metric: M of the matrices that are edited, `[d, d]` float64.
    """

    encoder: TextEncoder
    device: torch.device
    world: Everyday | None
    metric: torch.Tensor

    def mean(self, manifest: Manifest) -> float:
        """Harmonic mean of generality and specificity."""
        delta = compiling.compile_edit(manifest, self.encoder, self.device, self.world)
        table = [row for row in rows(manifest) if row.kind in ("positive", "negative")]
        pairs = [(row.prompt, row.destination or "") for row in table]
        shown = map(forecast.shown, forecast.shares(pairs, self.encoder, delta.operator, self.metric))
        found = list(zip(table, shown, strict=True))
        generality = fmean(share for row, share in found if row.kind == "positive")
        return harmonic_mean([generality, 1 - fmean(share for row, share in found if row.kind == "negative")])

    def moved(self, manifest: Manifest) -> float:
        """How far the sources go, on average."""
        delta = compiling.compile_edit(manifest, self.encoder, self.device, self.world)
        pairs = [(edit.source, edit.destination) for edit in manifest.edits]
        return fmean(forecast.shares(pairs, self.encoder, delta.operator, self.metric))


def forecasts(
    manifest: Manifest, checkpoint: Checkpoint, encoder: TextEncoder, device: torch.device, world: Everyday | None
) -> Forecasts:
    """Forecasts for the matrices that a manifest edits."""
    return Forecasts(encoder, device, world, forecast.metric(checkpoint, compiling.origin(manifest, encoder)))
