"""One model that draws for many edits: it takes on an edit, draws a batch, and has the pictures judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

from timecli.drawing.judge import Judge, load_judge
from timecli.drawing.networks import network_of
from timecli.drawing.render import Pipeline, Settings, load_pipeline, render, replaced
from timecli.editing import applying
from timecli.editing.delta import Delta
from timecli.measuring import quality
from timecli.measuring.inception import Inception, load_inception
from timecli.measuring.rivals import Change
from timecli.measuring.schedule import Batch
from timecli.models import streams
from timecli.models.checkpoint import Checkpoint
from timecli.text.readers import TextEncoder


@dataclass(frozen=True)
class Studio:
    """Everything that drawing and judging needs; it can be sent to another machine.

    Attributes:
        pipeline: the unedited model.
        judge: tells two texts apart on a picture.
        matrices: the unedited maps that read text, in their stored dtype.
        settings: seeds, steps, guidance.
        inception: in whose features FID is taken; None for the judge's.
    """

    pipeline: Pipeline
    judge: Judge
    matrices: dict[streams.Matrix, torch.Tensor]
    settings: Settings
    inception: Inception | None = None

    def judged(self, change: Change | None, batch: Batch, tick: Callable[[float], None]) -> list[str]:
        """Draw a batch with the edited model, and one line of JSON for each of its groups."""
        captions = not batch.groups[0].questions
        settings = replace(self.settings, seeds=self.settings.seeds[:1]) if captions else self.settings
        with self.edited(change):
            images = render(self.pipeline, [group.prompt for group in batch.groups], settings, tick)
        found = self._described(batch, images) if captions else self._answered(batch, images)
        return [
            json.dumps({"model": batch.model, "prompt": g.prompt, "questions": g.questions, **one}, ensure_ascii=False)
            for g, one in zip(batch.groups, found, strict=True)
        ]

    def _answered(self, batch: Batch, images: dict[str, list[Image]]) -> list[dict[str, Any]]:
        """For every question the text, 0 or 1, that each picture shows, and what the judge sees in the pictures."""
        return [
            {
                "answers": [self.judge.choose(images[group.prompt], texts) for texts in group.questions],
                "seen": quality.packed(self.judge.seen(images[group.prompt]), quality.SHORT),
            }
            for group in batch.groups
        ]

    def _described(self, batch: Batch, images: dict[str, list[Image]]) -> list[dict[str, Any]]:
        captions = [group.prompt for group in batch.groups]
        drawn = [images[caption][0] for caption in captions]
        scores, features = quality.described(drawn, captions, self.judge, self.inception)
        return [
            {"clip_score": round(score, 4), "features": quality.packed(row)}
            for score, row in zip(scores, features, strict=True)
        ]

    def edited(self, change: Change | None) -> AbstractContextManager[None]:
        """Inside, the pipeline has the edit."""
        if change is None:
            return nullcontext()
        if change.text is not None:
            return replaced(self.pipeline.text_encoder, change.text)
        assert change.delta is not None
        return replaced(network_of(self.pipeline), self._tensors(change.delta))

    def _tensors(self, delta: Delta) -> dict[str, torch.Tensor]:
        device, found = self.judge.model.device, {}
        for matrix, tensor in self.matrices.items():
            name = matrix.names[streams.DIFFUSERS]
            if operators := applying.for_matrix([delta], matrix):
                found[name] = applying.edit_matrix(tensor, name, operators, device)
        return found


def open_studio(
    checkpoint: Checkpoint,
    encoder: TextEncoder,
    judge: Path,
    settings: Settings,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    inception: Path | None = None,
) -> Studio:
    """A studio with a model from its files, a judge from its folder, and Inception from its file, if one is given.

    Raises:
        CheckpointError: the model cannot be drawn with, the folder is no judge, or the file no Inception.
    """
    critic, network = load_judge(judge, device), load_inception(inception, device) if inception else None
    matrices = {place.matrix: tensor for place, tensor in checkpoint.projections(twins=False)}
    return Studio(load_pipeline(checkpoint, encoder, device, dtype), critic, matrices, settings, network)
