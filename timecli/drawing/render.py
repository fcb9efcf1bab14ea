"""Prompts and seeds to images, by diffusers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import diffusers
import numpy as np
import torch
from diffusers.utils import logging
from PIL.Image import Image

from timecli.drawing import kinds, libraries, memory, networks, parts, prediction
from timecli.drawing.album import Album
from timecli.errors import CheckpointError, explained
from timecli.files.safefile import DAMAGED, require_finite
from timecli.models.checkpoint import Checkpoint
from timecli.models.streams import tokenizer_of
from timecli.shown import brief
from timecli.text.encoding import ClipEncoder
from timecli.text.pipelines import PipelineEncoder
from timecli.text.readers import TextEncoder

Pipeline: TypeAlias = Any
"""One of diffusers' pipelines from text to pictures."""

READERS = ("text_encoder", "tokenizer")
"""How a pipeline's parts are called that read text."""


@dataclass(frozen=True)
class Settings:
    """How to render.

    Attributes:
        seeds: each fixes the start noise.
        steps: of denoising.
        guidance: the scale of classifier-free guidance.
        because: sentences on what the model's kind decides.
    """

    seeds: tuple[int, ...]
    steps: int = kinds.Kind.steps
    guidance: float = kinds.Kind.guidance
    because: tuple[str, ...] = ()


def settings(
    seeds: int, steps: int | None = None, guidance: float | None = None, checkpoint: Checkpoint | None = None
) -> Settings:
    """The first seeds, with what nobody says as the model's kind is drawn.

    Raises:
        CheckpointError: the model says of itself that it is drawn in a way that is none here.
    """
    kind = kinds.kind_of(checkpoint) if checkpoint else kinds.Kind()
    because = kind.said(steps, guidance)
    if checkpoint and (said := prediction.stated(checkpoint) or prediction.of_scheduler(checkpoint)):
        because += (said.sentence,)
    return Settings(tuple(range(seeds)), steps or kind.steps, kind.guidance if guidance is None else guidance, because)


def load_pipeline(
    checkpoint: Checkpoint, encoder: TextEncoder, device: torch.device, dtype: torch.dtype = torch.float32
) -> Pipeline:
    """The whole model, from local files only.

    A single file without a config folder takes the configs that ship with this package.

    Args:
        checkpoint: the model.
        encoder: its text encoder.
        device: where to draw. A GPU without room for all of it at once gets one part after the other.
        dtype: of the weights.

    Raises:
        CheckpointError: diffusers cannot load it, it draws from more than text, or a weight is missing or NaN.
    """
    parts.require_own_latents(checkpoint)
    logging.disable_progress_bar()
    kind = getattr(diffusers, checkpoint.family.pipeline)
    given = {**parts.unused(kind), **_parts(checkpoint, encoder, dtype)}
    parts.require_buildable(checkpoint, kind, given)
    options: dict[str, Any] = {"torch_dtype": dtype, "local_files_only": True, "use_safetensors": True, **given}
    with explained(f"{checkpoint.path} cannot be loaded for drawing; diffusers says", parts.way_out(checkpoint)):
        if checkpoint.is_folder:
            variant = checkpoint.copies[0].variant or None  # of the UNet that is edited first; None is the plain one
            pipeline = kind.from_pretrained(checkpoint.path, variant=variant, trust_remote_code=False, **options)
        else:
            with _as_safetensors(checkpoint.path) as file:
                pipeline = _of_file(kind, file, checkpoint, options)
    if not checkpoint.is_folder:  # whose scheduler is a config's that many files share
        said, trailing = prediction.stated(checkpoint), kinds.kind_of(checkpoint).trailing
        pipeline.scheduler = parts.scheduler(pipeline.scheduler, said, trailing)
    parts.require_text_alone(checkpoint.path, *networks.channels(pipeline))
    _require_side(pipeline, checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    if isinstance(encoder, PipelineEncoder):
        networks.network_of(pipeline).register_to_config(**{networks.LENGTH: encoder.length})
    _require_sound(pipeline, checkpoint.path)
    return memory.placed(pipeline, device)


def _of_file(kind: Any, file: Path, checkpoint: Checkpoint, options: dict[str, Any]) -> Pipeline:
    """The pipeline of a single file; a diffusion transformer's file is its network, and the rest is in its folder."""
    config, network = parts.configs(checkpoint), checkpoint.family.network
    if not checkpoint.family.by_pipeline:
        return kind.from_single_file(str(file), config=str(config), trust_remote_code=False, **options)
    part = parts.class_of(kind, network).from_single_file(
        str(file), config=str(config), subfolder=network, torch_dtype=options["torch_dtype"], local_files_only=True,
        trust_remote_code=False,
    )  # fmt: skip
    return kind.from_pretrained(config, **{network: part}, trust_remote_code=False, **options)


def _require_side(pipeline: Pipeline, checkpoint: Checkpoint) -> None:
    side = networks.side_of(pipeline)
    if not isinstance(side, int) or side < 1:
        raise CheckpointError(
            f"{checkpoint.path} has a config whose sample_size is {brief(side)}; it must be a number."
        )


@contextmanager
def _as_safetensors(path: Path) -> Iterator[Path]:
    """The file under a name that diffusers, which goes by the ending, does not take for a pickle's."""
    if path.suffix == ".safetensors":
        yield path
        return
    with TemporaryDirectory() as folder:
        link = Path(folder) / "model.safetensors"
        link.symlink_to(path.resolve())
        yield link


def _require_sound(pipeline: Pipeline, path: Path) -> None:
    """Refuse weights that are not there, which diffusers leaves without a value, and NaN or infinite ones."""
    modules = {part: module for part, module in pipeline.components.items() if isinstance(module, torch.nn.Module)}
    for part, module in modules.items():
        for name, tensor in module.state_dict().items():
            if tensor.is_meta:
                raise CheckpointError(f"{path}: {name} of the {part} is missing; use a complete model.")
            require_finite(tensor, f"{path}: {name} of the {part}", _advice(tensor.dtype))


def _advice(dtype: torch.dtype) -> str:
    """What to do about NaN and infinity, which half precision makes of numbers that are too large for it."""
    return DAMAGED if dtype == torch.float32 else "draw with --precision fp32, which tells whether the model is damaged"


def _parts(checkpoint: Checkpoint, encoder: TextEncoder, dtype: torch.dtype) -> dict[str, Any]:
    """What is in memory already. SDXL needs more of its text encoders than their states, so diffusers reads them."""
    if isinstance(encoder, PipelineEncoder):
        return {
            name: libraries.in_dtype(part, dtype) if isinstance(part, torch.nn.Module) else part
            for name, part in encoder.pipeline.components.items()
            if name.startswith(READERS)  # one that is None is not looked for
        }
    if not isinstance(encoder, ClipEncoder):
        return {}
    folders = [text.tower.folder for text in checkpoint.texts]
    pairs = list(zip(folders, encoder.towers, strict=True))
    found: dict[str, Any] = {
        tokenizer_of(folder): libraries.tokenizer(tower.tokenizer, tower.model.length) for folder, tower in pairs
    }
    if len(pairs) == 1:
        found[folders[0]] = libraries.text_encoder(encoder.towers[0].model, dtype)
    return found


@contextmanager
def replaced(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Inside, a UNet or text encoder has `tensors` (by its parameters' names); afterwards exactly its own again."""
    parameters = {name: module.get_parameter(name) for name in tensors}
    originals = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data.copy_(tensors[name])
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data.copy_(originals[name])


def render(
    pipeline: Pipeline,
    prompts: Sequence[str],
    settings: Settings,
    tick: Callable[[float], None],
    album: Album | None = None,
) -> dict[str, list[Image]]:
    """One picture per prompt and seed, in the order of the seeds.

    Args:
        pipeline: from `load_pipeline`.
        prompts: what to draw; repetitions are drawn once.
        settings: seeds, steps, guidance.
        tick: called with the number of pictures finished since the last call, in fractions.
        album: has batches of an earlier run, and keeps those that are drawn.
    """
    jobs = [(prompt, seed) for prompt in dict.fromkeys(prompts) for seed in settings.seeds]
    size = networks.batch_size(pipeline)
    images: dict[str, list[Image]] = {prompt: [] for prompt in prompts}
    for first in range(0, len(jobs), size):
        batch = jobs[first : first + size]
        found = album.batch(first, len(batch)) if album else None
        if found is not None:
            tick(len(batch))
        else:
            found = _draw(pipeline, batch, settings, tick)
            if album:
                album.keep(first, found)
        for (prompt, _), image in zip(batch, found, strict=True):
            images[prompt].append(image)
    return images


@torch.no_grad()
def _draw(
    pipeline: Pipeline, batch: list[tuple[str, int]], settings: Settings, tick: Callable[[float], None]
) -> list[Image]:
    def after_step(_pipeline: Any, _step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        tick(len(batch) / pipeline.num_timesteps)
        return values

    with explained("the model cannot be drawn with; diffusers says", "look at the model's configs"):
        result = pipeline(
            prompt=[prompt for prompt, _ in batch],
            # Schedulers with noise of their own must not draw it from a generator that everything shares.
            generator=[torch.Generator().manual_seed(seed) for _, seed in batch],
            num_inference_steps=settings.steps,
            **networks.asked(pipeline, [seed for _, seed in batch], settings.guidance),
            callback_on_step_end=after_step,
            output_type="np",
        )
    for (prompt, _), pixels in zip(batch, result.images, strict=True):
        if not np.isfinite(pixels).all():
            raise CheckpointError(f"{prompt!r} is drawn as NaN, which would be black; {_advice(pipeline.dtype)}.")
    images: list[Image] = pipeline.image_processor.numpy_to_pil(result.images)
    return images
