"""A diffusion transformer's text encoders and tokenizers, from files to transformers' classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn import functional

from timecli.errors import CheckpointError
from timecli.files.quantised import is_beside, numbers
from timecli.models.encoders import TABLES, EncoderFiles
from timecli.shown import brief
from timecli.text.sizes import require_no_larger, require_plausible, require_stated

LONGEST = 2**20
"""Tokens of a prompt that are too many for every text encoder."""


def encoder(text: EncoderFiles, tensors: dict[str, torch.Tensor], device: torch.device) -> Any:
    """A text encoder with these weights, in their dtype; in bfloat16 where they are in fp8, which only stores.

    Raises:
        CheckpointError: its config describes another one than its tensors do.
    """
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # what it would say of missing weights is refused here
    kind, about = getattr(transformers, text.tower.model), text.folder / "config.json"
    require_stated(about, kind.config_class)
    require_plausible(about, text.files, counts_alone=True)
    config = kind.config_class.from_pretrained(text.folder, local_files_only=True, trust_remote_code=False)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # of weights that are not these, which are plain numbers
    cut = text.tower.layers > 0 and text.layers is not None
    if cut:
        _cut(config.get_text_config(), text.tower.layers)
    rows = [len(tensor) for name, tensor in tensors.items() if name.endswith(TABLES)]
    words = config.get_text_config()  # a table may be longer, as after textual inversion
    words.vocab_size = max([words.vocab_size, *rows])
    require_no_larger(about, text.files, partial(kind, config))
    dtypes = (one.dtype for name, one in tensors.items() if one.is_floating_point() and not is_beside(name))
    dtype = next(dtypes, torch.float32)
    dtype = torch.bfloat16 if dtype.itemsize == 1 else dtype
    model, found = kind.from_pretrained(
        None,
        config=config,
        state_dict=dict(numbers(tensors, dtype)),
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        trust_remote_code=False,
    )
    # transformers draws at random what is missing, or of another shape.
    shaped = (name for name, *_ in found["mismatched_keys"])
    wrong = sorted(filter(text.is_seen, shaped)) or sorted(filter(text.is_seen, found["missing_keys"]))
    if wrong:
        raise CheckpointError(
            f"{text.files[0].path} lacks {wrong[0]} of the text encoder {text.tower.name} as {text.folder} describes "
            f"it, and {len(wrong) - 1} tensors more; use a complete copy, or its own config."
        )
    if cut:
        model.get_decoder().norm = torch.nn.Identity()  # behind all layers, and the states are of those before it
    if device.type == "cpu":
        _multiply_in_float32(model)
    return model.eval().to(device)


def _cut(config: Any, layers: int) -> None:
    """Let a language model end with a layer, so that memory has nothing that the text does not go through."""
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]


def _multiply_in_float32(model: torch.nn.Module) -> None:
    """Let layers multiply as a GPU does, summing in float32 and rounding once, by a copy of one matrix at a time.

    Processors without instructions for two-byte numbers take several times as long for them. And the last bits of a
    product depend on where in memory a matrix begins, which for one that is mapped is where it stands in its file.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.weight.itemsize <= 4:
            module.forward = partial(_rounded_once, module)  # type: ignore[method-assign]


def _rounded_once(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """The layer's product, in its own dtype."""
    bias = None if layer.bias is None else layer.bias.float()
    weight = layer.weight.to(torch.float32, copy=True)
    return functional.linear(x.float(), weight, bias).to(layer.weight.dtype)


def tokenizer(folder: Path, config: Any) -> Any:
    """A tokenizer, or the processor of text and pictures that stands in its place; it reads what its encoder holds.

    Args:
        folder: where it is.
        config: of its text encoder.
    """
    processor = (folder / "processor_config.json").exists() or (folder / "preprocessor_config.json").exists()
    kind = transformers.AutoProcessor if processor else transformers.AutoTokenizer
    found = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    words = getattr(found, "tokenizer", found)
    stated, most = words.model_max_length, getattr(config, "max_position_embeddings", LONGEST)
    if isinstance(stated, bool) or not isinstance(stated, int | float) or stated < 1:
        raise CheckpointError(
            f"{folder / 'tokenizer_config.json'}: model_max_length is {brief(stated)}, and no number of tokens; use "
            "the model's own."
        )
    words.model_max_length = min(int(stated), int(most))  # diffusers fills prompts up to it
    return found
