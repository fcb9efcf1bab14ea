"""The parts that diffusers builds for a pipeline, looked at before: it believes configs, and reads weights after."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Collection, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from timecli.drawing.prediction import Prediction
from timecli.errors import CheckpointError, explained
from timecli.files.code import INDEX
from timecli.files.foreign import read_config
from timecli.files.quantised import quantised
from timecli.files.safefile import SafeFile
from timecli.models import layouts
from timecli.models.checkpoint import Checkpoint
from timecli.models.variants import groups
from timecli.shown import brief
from timecli.text.sizes import require_no_larger, require_plausible

CONFIGS = {layouts.SD1.name: "sd1", layouts.SDXL.name: "sdxl"}
"""Configs that ship with this package. SD 2 comes in two kinds of prediction that the tensors do not tell apart."""
LATENTS = 4
"""Channels of the pictures of every Stable Diffusion with a UNet, but for those that were given another autoencoder."""
CONV_OUT = ("model.diffusion_model.out.2.weight", "diffusion_model.out.2.weight", "out.2.weight", "conv_out.weight")
"""A UNet's last convolution."""
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of pipelines that no picture of a prompt needs."""
CODER = "Autoencoder"
"""How every class of diffusers begins that can stand in for another autoencoder."""


def configs(checkpoint: Checkpoint) -> Path:
    """The folder of a model's configs: its own, the one beside it, or one that ships with this package."""
    if checkpoint.is_folder:
        return checkpoint.path
    if checkpoint.config is not None:
        return checkpoint.config
    if checkpoint.family.name not in CONFIGS:
        raise CheckpointError(f"{checkpoint.path} is {checkpoint.family.name}; give its diffusers folder as --config.")
    return Path(str(resources.files("timecli").joinpath(f"data/{CONFIGS[checkpoint.family.name]}")))


def way_out(checkpoint: Checkpoint) -> str:
    """What to do where diffusers does not load a model: one that is quantised may be sound."""
    if any(quantised(file) for copy in checkpoint.copies for file in copy.files):
        return "it is quantised, so verify the edit on the model that it was made from"
    return "use a complete copy, of a kind that diffusers draws"


def require_text_alone(path: Path, taken: int, given: int) -> None:
    """Refuse a network that takes more channels than those of the noise."""
    if taken != given:
        raise CheckpointError(
            f"{path} takes {taken} channels, a picture among them; only text-to-image models can be drawn with. Verify "
            "the edit on the model that it was made from."
        )


def require_own_latents(checkpoint: Checkpoint) -> None:
    """Refuse a UNet that takes a picture, too, and one whose configs, of another file, describe other latents."""
    if checkpoint.family.by_pipeline:
        return
    taken, shapes = checkpoint.channels, checkpoint.copies[0].shapes
    require_text_alone(checkpoint.path, taken, next((shapes[name][0] for name in CONV_OUT if name in shapes), LATENTS))
    if checkpoint.is_folder:
        return
    config = configs(checkpoint) / checkpoint.family.network / "config.json"
    stated = read_config(config).get("in_channels", LATENTS)
    if stated != taken:
        raise CheckpointError(
            f"{checkpoint.path} draws {taken} channels, for another autoencoder than the one of {config} ({stated}); "
            "give a diffusers folder of its own kind as --config."
        )


def unused(kind: Any) -> dict[str, None]:
    """The parts of a pipeline that are left out, as its loaders take it."""
    return dict.fromkeys(name for name in UNUSED if name in inspect.signature(kind.__init__).parameters)


def class_of(kind: Any, name: str) -> Any:
    """The class that a pipeline's part has."""
    return typing.get_type_hints(kind.__init__)[name]


def scheduler(found: Any, said: Prediction | None, trailing: bool = False) -> Any:
    """The scheduler for what a file says of itself, with all else of its config.

    Args:
        found: that of the config.
        said: what the network predicts; None for what the config says. A class that knows no zero SNR is replaced.
        trailing: whether steps count from the last.
    """
    kind: Any = type(found)
    wanted: dict[str, Any] = {"prediction_type": said.kind} if said else {}
    if trailing or (said and said.zero_snr):
        wanted["timestep_spacing"] = "trailing"
    if said and said.zero_snr:
        wanted["rescale_betas_zero_snr"] = True
    if not wanted:
        return found
    if not wanted.keys() <= inspect.signature(kind.__init__).parameters.keys():
        kind = diffusers.EulerDiscreteScheduler
    return kind.from_config(found.config, **wanted)


def require_buildable(checkpoint: Checkpoint, kind: Any, given: Collection[str]) -> None:
    """Refuse a model that lists a part of a class that the pipeline has not, or one that is larger than its weights.

    Args:
        checkpoint: the model.
        kind: the class of its pipeline.
        given: the parts that diffusers does not build.

    Raises:
        CheckpointError: so it is, or a config cannot be read or built.
    """
    folder = configs(checkpoint)
    whole = {place.file.path: place.file for place in checkpoint.places}.values()
    listed = read_config(folder / INDEX)
    for name in typing.get_type_hints(kind.__init__):
        if name in given or not isinstance(listed.get(name), list):
            continue
        wanted = _listed(folder, name, listed[name], class_of(kind, name), checkpoint.is_folder)
        if wanted is None:
            continue
        inside = checkpoint.is_folder or (checkpoint.family.by_pipeline and name != checkpoint.family.network)
        own = _files(folder / name) if inside else []
        _require_fitting(folder / name, wanted, own or tuple(whole))


def _listed(folder: Path, name: str, listed: Sequence[str | None], expected: Any, coders: bool) -> Any:
    """The class that a folder lists for a part; None for no part, and for one of words or pictures alone."""
    library, kind = listed
    found: Any = getattr(transformers if library == "transformers" else diffusers, str(kind), None)
    if library is None:
        return None
    is_network = isinstance(found, type) and issubclass(found, torch.nn.Module)
    fits = found is not None
    if isinstance(expected, type) and issubclass(expected, torch.nn.Module):
        other = coders and expected.__name__.startswith(CODER) and str(kind).startswith(CODER)
        fits = is_network and (issubclass(found, expected) or other)
    elif name == "scheduler":
        fits = isinstance(found, type) and issubclass(found, diffusers.SchedulerMixin)
    if not fits or (is_network and name == "scheduler"):
        raise CheckpointError(
            f"{folder / INDEX}: {name} is {brief(kind)}, which is no class that it can be "
            f"({getattr(expected, '__name__', expected)}); use the model's own {INDEX}."
        )
    return found


def _files(folder: Path) -> list[SafeFile]:
    return [file for group in groups(folder) for file in group.files] if folder.is_dir() else []


def _require_fitting(folder: Path, kind: Any, files: Sequence[SafeFile]) -> None:
    """Refuse a part whose config asks for more than its weights have."""
    if not isinstance(kind, type) or not issubclass(kind, torch.nn.Module):
        require_plausible(folder / "scheduler_config.json", files)
        return
    config = folder / "config.json"
    if not config.exists():
        raise CheckpointError(f"{config} is missing, so nothing tells what the {folder.name} is; complete the folder.")
    require_plausible(config, files)
    with explained(f"{config} describes nothing that can be built; its library says"):
        network: Any = kind
        if issubclass(network, transformers.PreTrainedModel):
            about = network.config_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            build = partial(network, about)
        else:
            build = partial(network.from_config, read_config(config))
        require_no_larger(config, files, build)
