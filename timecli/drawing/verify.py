"""Did the edit do what it should, and nothing else? Before and after, on the manifest's own prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, harmonic_mean, pstdev

import torch
from PIL.Image import Image

from timecli.drawing.render import Pipeline, Settings, render, replaced
from timecli.editing import applying, compiling
from timecli.editing.delta import is_delta, load_delta
from timecli.errors import CheckpointError, DeltaError
from timecli.files.safefile import open_file
from timecli.manifests.manifest import Manifest
from timecli.manifests.rows import Row
from timecli.models import layouts
from timecli.models.checkpoint import Checkpoint
from timecli.text import encoding
from timecli.text.encoding import TextEncoder
from timecli.text.everyday import Everyday

METRICS = {"efficacy": "source", "generality": "positive", "specificity": "negative"}
"""Each metric and the kind of prompt that it looks at."""

Images = Mapping[str, Sequence[Image]]
Ask = Callable[[str, tuple[str, str]], Sequence[int]]
"""What was drawn for a prompt, and (prompt, destination) -> 0 or 1 per picture: which of the two it shows."""


@dataclass(frozen=True)
class Score:
    """A share of images, for every seed."""

    per_seed: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.per_seed)

    @property
    def std(self) -> float:
        """Standard deviation over the seeds."""
        return pstdev(self.per_seed)


Scores = dict[str, dict[str, Score]]
"""baseline, oracle, edited -> metric -> score."""


def prompts_before(table: Sequence[Row]) -> list[str]:
    """What the unedited model draws: every prompt, and the destinations that are wanted, as the oracle."""
    oracle = [row.oracle for row in table if row.oracle]
    return list(dict.fromkeys([*(row.prompt for row in table), *oracle]))


def prompts_after(table: Sequence[Row]) -> list[str]:
    """What the edited model draws."""
    return list(dict.fromkeys(row.prompt for row in table))


def is_model(path: Path) -> bool:
    """Whether an edit that is to be verified is a whole model, and no delta."""
    return not (path.is_file() and is_delta(open_file(path)))


def edited_matrices(
    path: Path | None,
    checkpoint: Checkpoint,
    manifest: Manifest,
    encoder: TextEncoder,
    exact: torch.device,
    world: Everyday | None = None,
) -> dict[str, torch.Tensor]:
    """The edited model's matrices by diffusers' names.

    Args:
        path: a delta; None compiles the manifest in memory.
        checkpoint: the unedited model.
        manifest: the edit.
        encoder: the unedited model's text encoder.
        exact: where to calculate in float64.
        world: the everyday world, for an edit that is compiled.

    Raises:
        DeltaError: the delta is for another text encoder, or another layer of it.
    """
    if path is None:
        delta = compiling.compile_edit(manifest, encoder, exact, world)
    else:
        delta = load_delta(path)
        applying.require_same_encoder(delta, checkpoint, encoder.fingerprint)
        if delta.origin.clip_skip != manifest.solve.clip_skip:
            raise DeltaError(
                f"{path} was compiled with clip_skip {delta.origin.clip_skip} and {manifest.name} has "
                f"{manifest.solve.clip_skip}; compile the manifest again, or set its solve.clip_skip."
            )
    tensors = applying.edit_matrices(checkpoint, [delta], exact).tensors
    return {
        place.matrix.names[layouts.DIFFUSERS]: tensors[place.key]
        for place in checkpoint.places
        if place.key in tensors and not place.twin
    }


def require_copy(copy: Checkpoint, checkpoint: Checkpoint, encoder: TextEncoder) -> list[str]:
    """Refuse what is not an edited copy of a model; what a user should know of a copy that may be one.

    Args:
        copy: the edited model; without a record, other tools may have edited it.
        checkpoint: the unedited model.
        encoder: the unedited model's text encoder.

    Raises:
        CheckpointError: another text encoder, or a record of another model's matrices.
    """
    if not _same_text_encoder(copy, checkpoint, encoder):
        raise CheckpointError(
            f"{copy.path} has another text encoder than {checkpoint.path}; give the model it was made from."
        )
    base = applying.base_hash(checkpoint)
    if copy.edits and copy.edits[0].get("base") != base:
        raise CheckpointError(f"{copy.path} was not made from {checkpoint.path}; give the model it was made from.")
    if applying.base_hash(copy) == base:
        return [f"{copy.path} has the cross-attention matrices of {checkpoint.path}; it is not edited."]
    return []


def _same_text_encoder(copy: Checkpoint, checkpoint: Checkpoint, encoder: TextEncoder) -> bool:
    """Whether the copy has the model's text encoder, in bfloat16 perhaps, which fingerprints do not round to."""
    towers = copy.text_encoders()
    if encoding.fingerprint(towers) == encoder.fingerprint:
        return True
    if not all(
        tensor.dtype == torch.bfloat16 for tower in towers for tensor in tower.values() if tensor.is_floating_point()
    ):
        return False
    rounded = [{name: tensor.bfloat16() for name, tensor in tower.items()} for tower in checkpoint.text_encoders()]
    return encoding.fingerprint(towers) == encoding.fingerprint(rounded)


def draw_copy(
    original: Callable[[], Pipeline],
    copy: Callable[[], Pipeline],
    table: Sequence[Row],
    settings: Settings,
    tick: Callable[[float], None],
) -> tuple[Images, Images]:
    """Pictures before and after the edit, by prompt, from the same seeds, each with all of its own model.

    One model is in memory at a time. The copy is the first, so that a damaged one is refused before anything is drawn.

    Args:
        original: loads the unedited model.
        copy: loads the edited one.
        table: the prompts.
        settings: seeds, steps, guidance.
        tick: as in `render`.
    """
    after = render(copy(), prompts_after(table), settings, tick)
    return render(original(), prompts_before(table), settings, tick), after


def draw(
    pipeline: Pipeline,
    edited: dict[str, torch.Tensor],
    table: Sequence[Row],
    settings: Settings,
    tick: Callable[[float], None],
) -> tuple[Images, Images]:
    """Pictures before and after the edit, by prompt, from the same seeds; the matrices are put into the pipeline."""
    before = render(pipeline, prompts_before(table), settings, tick)
    with replaced(pipeline.unet, edited):
        return before, render(pipeline, prompts_after(table), settings, tick)


def demanded(manifest: Manifest) -> list[str]:
    """The metrics that the manifest has thresholds for."""
    return [metric for metric in METRICS if getattr(manifest.verify, metric) is not None]


def measure(table: Sequence[Row], before: Ask, after: Ask) -> Scores:
    """Efficacy, generality and specificity (Orgad et al. 2023, §5.4) with the oracle and baseline of §5.5.

    The share of images that the judge takes for the destination (source and positive prompts) or for the prompt itself
    (negative prompts), against the other of the two. The oracle is the unedited model, given the destination where the
    destination is wanted.

    Args:
        table: the prompts, of which samples are left out.
        before: the unedited model's pictures, judged.
        after: the edited model's.
    """
    scores: Scores = {"baseline": {}, "oracle": {}, "edited": {}}
    for metric, kind in METRICS.items():
        chosen = [(row, (row.prompt, row.destination or "")) for row in table if row.kind == kind]
        if not chosen:
            continue
        wanted = 0 if kind == "negative" else 1
        found = {
            "baseline": [before(row.prompt, pair) for row, pair in chosen],
            "oracle": [before(row.oracle or row.prompt, pair) for row, pair in chosen],
            "edited": [after(row.prompt, pair) for row, pair in chosen],
        }
        for model, answers in found.items():
            per_seed = (fmean(answer == wanted for answer in seed) for seed in zip(*answers, strict=True))
            scores[model][metric] = Score(tuple(per_seed))
    return scores


def mean(scores: Mapping[str, Score]) -> float:
    """Harmonic mean of the metrics that were measured."""
    return harmonic_mean([score.mean for score in scores.values()])


def missed(manifest: Manifest, edited: Mapping[str, Score]) -> list[str]:
    """Sentences for the manifest's thresholds that the edit does not reach."""
    sentences = []
    for metric in demanded(manifest):
        wanted: float = getattr(manifest.verify, metric)
        if edited[metric].mean < wanted:
            sentences.append(
                f"{metric} is {edited[metric].mean:.1%}, below the {wanted:.1%} that {manifest.name} asks for."
            )
    return sentences
