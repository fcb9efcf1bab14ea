"""How large networks are: a text encoder from its weights, and what no weight tells from its config.

Libraries believe a config before they look at the weights, and build what it says; so configs are checked first.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from timecli.errors import CheckpointError
from timecli.files import foreign
from timecli.files.safefile import SafeFile
from timecli.models import layouts, streams
from timecli.models.configs import of_text
from timecli.shown import brief
from timecli.text.clip import ACTIVATIONS

LAYER = "encoder.layers."
LARGEST, LONGEST_LIST = 4096, 64
"""What numbers in a config may be where no weight tells: the side of a picture, the steps of a schedule; entries."""
TIMES, SPARE, SPARE_TENSORS = 4, 2**20, 256
"""How many times as much as its weights a network may have, and what it may have at any rate: numbers and tensors."""
DIGITS = 9
"""A longer number in a tensor's name is no layer's."""
UNCOUNTED = ("max_window_layers",)
"""Keys that name layers and do not say how many there are."""
STATED = (("hidden_size", "d_model"), ("num_hidden_layers", "num_layers"), ("vocab_size",))
"""Sizes that a text encoder's config states, each by the names that it can have."""
WHOLE_CLIP = {"clip_text_model": ("clip",)}
"""Configs of more than its text in which transformers finds that of a text encoder."""
LISTED = "num_labels"
"""The key of which transformers makes a list as soon as it reads a config."""
DEFAULTS = {
    "hidden_size": 512,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
"""What a text encoder's config means by leaving a key out, as transformers reads it."""


@dataclass(frozen=True)
class Settings:
    """What no shape of a text encoder tells."""

    heads: int
    activation: str
    epsilon: float = 1e-5


def _layers(weights: Mapping[str, torch.Tensor]) -> int:
    return len({key.split(".")[2] for key in weights if key.startswith(LAYER)})


def measured(weights: Mapping[str, torch.Tensor], name: str) -> dict[str, int]:
    """A text encoder's sizes from its shapes, by the names that its config has for them."""
    shapes = {}
    for key in (layouts.HF_MARK, "embeddings.position_embedding.weight", "encoder.layers.0.mlp.fc1.weight"):
        if key not in weights:
            raise CheckpointError(f"{name} has a text encoder without {key}; the file is incomplete.")
        shapes[key] = tuple(weights[key].shape)
        if len(shapes[key]) != 2 or 0 in shapes[key]:
            raise CheckpointError(f"{name} has a text encoder whose {key} is {list(shapes[key])}; use another copy.")
    for key, value in weights.items():
        if not value.is_floating_point() and not key.endswith("position_ids"):
            raise CheckpointError(
                f"{name} has a text encoder whose {key} is {value.dtype}; use a copy in fp16 or fp32."
            )
    (vocabulary, width), (length, _), (inner, _) = shapes.values()
    return {
        "hidden_size": width,
        "vocab_size": vocabulary,
        "max_position_embeddings": length,
        "intermediate_size": inner,
        "num_hidden_layers": _layers(weights),
    }


def guessed(sizes: Mapping[str, int], tower: streams.Tower, name: str) -> Settings:
    """What no shape tells: CLIP's heads are 64 wide in every release, and its activation follows from the family."""
    width = sizes["hidden_size"]
    if width % 64:
        raise CheckpointError(f"{name} has a text encoder of width {width}, which CLIP has not; give its --config.")
    return Settings(width // 64, "gelu" if tower.openclip else "quick_gelu")


def stated(config: Path, sizes: Mapping[str, int], name: str) -> Settings:
    """What no shape tells, from a `config.json`, whose sizes must be those of the weights."""
    found = {**DEFAULTS, **foreign.read_config(config)}
    for key, size in sizes.items():
        longer = (
            key == "vocab_size" and isinstance(found[key], int) and size // 2 < found[key] < size
        )  # words were added
        if (found[key] != size and not longer) or isinstance(found[key], bool):
            raise CheckpointError(
                f"{config}: {key} is {brief(found[key])} and the text encoder of {name} has {size}; use its own config."
            )
    heads, width = found["num_attention_heads"], sizes["hidden_size"]
    if not isinstance(heads, int) or not 1 <= heads <= width or width % heads:
        raise CheckpointError(
            f"{config}: num_attention_heads is {brief(heads)}, which does not divide {width}; use its own config."
        )
    activation, epsilon = found["hidden_act"], found["layer_norm_eps"]
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise CheckpointError(f"{config}: hidden_act is {brief(activation)}; CLIP has {' or '.join(ACTIVATIONS)}.")
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise CheckpointError(f"{config}: layer_norm_eps is {brief(epsilon)}; use its own config.")
    return Settings(heads, activation, epsilon)


def require_stated(config: Path, kind: Any) -> None:
    """Refuse a config of another kind of network, or one that leaves a size to a library's default.

    Args:
        config: of a text encoder, a JSON file.
        kind: the class of transformers that will read it.

    Raises:
        CheckpointError: so it is.
    """
    found = foreign.read_config(config)
    said = found.get("model_type", kind.model_type)
    if said not in (kind.model_type, *WHOLE_CLIP.get(kind.model_type, ())):
        raise CheckpointError(
            f"{config}: model_type is {brief(said)}, and the text encoder of this kind of model is {kind.model_type}; "
            "use the model's own folder."
        )
    text = of_text(found)
    lacking = [names[0] for names in STATED if not any(name in text for name in names)]
    lacking += [part for part in kind.sub_configs if part != "text_config" and not found.get(part)]
    if lacking:
        raise CheckpointError(
            f"{config} does not state {lacking[0]}, so that a library would build what it likes, perhaps "
            "larger than its weights; use the model's own config."
        )


FITTING: set[tuple[bytes, str, int, int]] = set()
"""Configs that were built and found no larger than their weights: an original and its edited copy have the same."""


def require_no_larger(config: Path, files: Iterable[SafeFile], build: Callable[[], torch.nn.Module]) -> None:
    """Build a network without memory, and refuse it as soon as it has more than its weights.

    Args:
        config: which describes it.
        files: where the weights are. Libraries write tied matrices once and parts for pictures not always, so that a
            network may have some times as much.
        build: makes the network, of whatever its class means by keys that the config leaves out.

    Raises:
        CheckpointError: it is larger.
    """
    shapes = [entry["shape"] for file in files for entry in file.entries.values()]
    known = (config.read_bytes(), repr(getattr(build, "func", build)), sum(map(math.prod, shapes)), len(shapes))
    if known in FITTING:
        return
    most, left = TIMES * sum(map(math.prod, shapes)) + SPARE, TIMES * len(shapes) + SPARE_TENSORS
    built = 0

    def counted(_module: torch.nn.Module, _name: str, tensor: torch.Tensor | None) -> None:
        nonlocal built, left
        built, left = built + (0 if tensor is None else tensor.numel()), left - 1
        if built > most or left < 0:
            raise CheckpointError(
                f"{config} describes a network that is larger than its weights, which have {len(shapes)} tensors and "
                f"{sum(map(math.prod, shapes))} numbers; use the config that belongs to them."
            )

    hooks = [
        torch.nn.modules.module.register_module_parameter_registration_hook(counted),
        torch.nn.modules.module.register_module_buffer_registration_hook(counted),  # frequencies, which no file has
    ]
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors without a number, which only this network has
            build()
    finally:
        for hook in hooks:
            hook.remove()
    FITTING.add(known)


def require_plausible(config: Path, files: Iterable[SafeFile], counts_alone: bool = False) -> None:
    """Refuse a config that describes a network larger than its weights, or anything that no machine can hold.

    Args:
        config: a JSON file; one that is missing is left to whoever needs it.
        files: where the weights are. Layers are counted by the numbers in their names.
        counts_alone: whether to look at layers and lists only: a text encoder's config has numbers that are no sizes.
    """
    if not config.exists():
        return
    entries = {name: entry for file in files for name, entry in file.entries.items()}
    side = max((size for entry in entries.values() if 0 not in entry["shape"] for size in entry["shape"]), default=0)
    named = 1 + max(
        (int(part) for name in entries for part in name.split(".") if part.isdecimal() and len(part) < DIGITS),
        default=0,
    )
    depth = min(named, len(entries))
    for key, number in _numbers("", foreign.read_config(config)):
        if key.endswith("[]"):
            most: float = max(LONGEST_LIST, depth)
        elif "layers" in key and key not in UNCOUNTED:
            most = max(depth, SPARE_TENSORS) if counts_alone else depth
        else:
            most = math.inf if counts_alone and key != LISTED else max(side, LARGEST)
        if number > most:
            raise CheckpointError(
                f"{config}: {key} is {brief(number)}, more than the {most} that it can be; copy it again."
            )


def _numbers(key: str, value: Any) -> Iterator[tuple[str, float]]:
    """Every number in JSON with the key that it stands under, and the length of every list as that of `key[]`."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _numbers(name, part)
    elif isinstance(value, list):
        yield f"{key}[]", len(value)
        for part in value:
            yield from _numbers(key, part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value
