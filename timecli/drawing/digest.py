"""What a bench draws and judges with, as hashes: any other weight, setting or token is another bench."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from timecli.drawing.judge import Judge
from timecli.drawing.render import Pipeline
from timecli.files.tensors import raw

NOTES = {"transformers_version", "architectures", "dtype", "torch_dtype", "name_or_path"}
"""Entries of a config that decide nothing, beside those that begin with an underscore."""
PASSING = ("padding", "truncation")
"""What a tokenizer keeps of its last call."""


def of_pipeline(pipeline: Pipeline) -> str:
    """SHA-256 of all that decides its pictures: weights as they are loaded, configs, scheduler, tokenizers."""
    return _sha256({name: _part(part) for name, part in _parts(pipeline).items()} | {"": _settings(pipeline.config)})


def of_edited(model: str, matrices: Mapping[str, torch.Tensor]) -> str:
    """That of a pipeline some of whose weights others have replaced, by its own and by these; nothing else is read."""
    weights = {name: hashlib.sha256(raw(tensor)).hexdigest() for name, tensor in matrices.items()}
    return _sha256([model, weights])


def of_judge(judge: Judge) -> str:
    """SHA-256 of all that decides its answers: weights, config, image processor, tokenizer."""
    pixels = judge.processor.image_processor.to_dict()
    return _sha256([_part(judge.model), _settings(pixels), _tokenizer(judge.processor.tokenizer)])


def _parts(pipeline: Pipeline) -> dict[str, Any]:
    return {name: part for name, part in sorted(pipeline.components.items()) if part is not None}


def _part(part: Any) -> Any:
    """A component as plain data."""
    if hasattr(part, "backend_tokenizer"):
        return _tokenizer(part)
    config = part.config if isinstance(part.config, dict) else part.config.to_dict()
    weights = _weights(part) if isinstance(part, torch.nn.Module) else None
    return [type(part).__name__, _settings(config), weights]


def _weights(module: torch.nn.Module) -> str:
    """SHA-256 over names, shapes and bytes, without the positions, which only count."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not name.endswith("position_ids"):
            digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(raw(tensor))
    return digest.hexdigest()


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without versions and paths, also where a part of it is a config."""
    return {
        str(key): _settings(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in NOTES and not str(key).startswith("_")
    }


def _tokenizer(tokenizer: Any) -> list[Any]:
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: value for key, value in rules.items() if key not in PASSING}
    sides = [tokenizer.model_max_length, tokenizer.padding_side, tokenizer.truncation_side]
    return [kept, tokenizer.special_tokens_map, sides]


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
