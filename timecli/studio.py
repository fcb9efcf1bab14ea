"""One model that draws for many edits: it takes on an edit, draws a batch, and has the pictures judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL.Image import Image

from timecli import edit, layouts
from timecli.checkpoint import Checkpoint
from timecli.delta import Delta
from timecli.encode import TextEncoder
from timecli.judge import Judge, load_judge
from timecli.plan import Batch
from timecli.render import Pipeline, Settings, load_pipeline, render, replaced
from timecli.rivals import Change


@dataclass(frozen=True)
class Studio:
    """Everything that drawing and judging needs; it can be sent to another machine.

    Attributes:
        pipeline: the unedited model.
        judge: tells two texts apart on a picture.
        matrices: the unedited cross-attention matrices in their stored dtype.
        settings: seeds, steps, guidance.
    """

    pipeline: Pipeline
    judge: Judge
    matrices: dict[layouts.Matrix, torch.Tensor]
    settings: Settings

    def judged(self, change: Change | None, batch: Batch, tick: Callable[[float], None]) -> list[str]:
        """Draw a batch with the edited model, and one line of JSON for each of its groups."""
        prompts = [group.prompt for group in batch.groups]
        with self.edited(change):
            images = render(self.pipeline, prompts, self.settings, tick)
        return [
            json.dumps(
                {
                    "model": batch.model,
                    "prompt": group.prompt,
                    "questions": group.questions,
                    "answers": self.answers(images[group.prompt], group.questions),
                },
                ensure_ascii=False,
            )
            for group in batch.groups
        ]

    def answers(self, images: list[Image], questions: tuple[tuple[str, str], ...]) -> list[list[int]]:
        """For every question the text, 0 or 1, that each picture shows."""
        return [self.judge.choose(images, texts) for texts in questions]

    def edited(self, change: Change | None) -> AbstractContextManager[None]:
        """Inside, the pipeline has the edit."""
        if change is None:
            return nullcontext()
        if change.text is not None:
            return replaced(self.pipeline.text_encoder, change.text)
        assert change.delta is not None
        return replaced(self.pipeline.unet, self._tensors(change.delta))

    def _tensors(self, delta: Delta) -> dict[str, torch.Tensor]:
        return {
            matrix.names[layouts.DIFFUSERS]: edit.edit_matrix(
                tensor, matrix.names[layouts.DIFFUSERS], [delta.operator], self.pipeline.device, 1.0, None
            )
            for matrix, tensor in self.matrices.items()
            if edit.covers(delta.origin, matrix)
        }


def open_studio(
    checkpoint: Checkpoint, encoder: TextEncoder, judge: Path, settings: Settings, device: torch.device
) -> Studio:
    """A studio with a model from its files and a judge from its folder.

    Raises:
        CheckpointError: the model cannot be drawn with, or the folder is no judge.
    """
    critic = load_judge(judge, device)
    matrices = {place.matrix: tensor for place, tensor in checkpoint.projections(twins=False)}
    return Studio(load_pipeline(checkpoint, encoder, device), critic, matrices, settings)
