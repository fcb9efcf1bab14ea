"""ComfyUI's own states of a prompt: its tokens, its text encoders, its padding."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_management
import torch

from timecli.errors import CheckpointError
from timecli.files.quantised import is_beside
from timecli.models import encoders, layouts
from timecli.models.maps import Maps
from timecli.models.streams import POOLED, TEXT, Family
from timecli.text import fingerprints
from timecli.text.segments import OfFamily, plain

from . import batches, network, positions
from .positions import Words

PROGRAM = "ComfyUI"
PENULTIMATE = {family.name for family in (layouts.SD2, layouts.SDXL, layouts.SD3)}
"""Families whose network is given the states before CLIP's last layer, so that this is clip_skip 1."""
TOWERS = ("clip_l", "clip_h", "clip_g", "t5xxl")
_KNOWN: WeakKeyDictionary[torch.nn.Module, tuple[str, ...]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class ComfyEncoder(OfFamily):
    """The text encoders that ComfyUI has loaded.

    Attributes:
        clip: ComfyUI's.
        tick: called with the number of prompts that were encoded since the last call.
    """

    clip: Any
    tick: Callable[[int], None] = field(default=lambda _: None, repr=False, compare=False)

    @property
    def width(self) -> int:
        """The d of the states."""
        return int(self.remembered([""], 0)[0][TEXT].shape[1])

    @property
    def pooled_width(self) -> int:
        """The d of the vector for the whole prompt; 0 where the network is given none."""
        found = self.remembered([""], 0)[0]
        return int(found[POOLED].shape[1]) if POOLED in found else 0

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt without padding, of the text's last segment; raises PromptError for one too long."""
        words, tokens = self._parts(prompt, self._tokenized(prompt))[-1]
        (segment,) = positions.segments([(words, tokens)], len(tokens))
        return tokens[segment.first : segment.stop]

    def pieces(self, word: str) -> list[str]:
        """The tokens of a word alone, as text."""
        name = self._keys[-1]
        tokenizer = self._tokenizer(name)
        ids = tokenizer.tokenizer(word)["input_ids"]
        last = -1 if tokenizer.tokenizer_adds_end_token else None
        return [plain(self._words(name).text(token)) for token in ids[tokenizer.tokens_start : last]]

    def encode(self, prompts: Sequence[str], positions: int | None = None) -> list[dict[str, torch.Tensor]]:
        """What each prompt gives to every stream, rows `[positions, d]` float32; `positions` is all."""
        tokens = [self._tokenized(prompt) for prompt in prompts]
        with batches.together(self._towers, tokens):
            return [self._encoded(prompt, own) for prompt, own in zip(prompts, tokens, strict=True)]

    def _encoded(self, prompt: str, tokens: dict[str, Any]) -> dict[str, torch.Tensor]:
        comfy.model_management.throw_exception_if_processing_interrupted()
        made = self.clip.encode_from_tokens(tokens, return_dict=True)
        states = made["cond"][0].float().cpu()
        if self.norm is not None and states.shape[1] != len(self.norm):
            raise other(TEXT, states.shape[1], self.family, len(self.norm))
        found = {TEXT: self.normed(states)}
        if POOLED in self.family.streams:
            if made["pooled_output"] is None:
                raise CheckpointError(
                    f"the CLIP gives no vector for the whole prompt, which {self.family.name} reads; connect the CLIP "
                    "that it is drawn with."
                )
            found[POOLED] = made["pooled_output"].float().cpu()
        self.known[prompt] = positions.segments(self._parts(prompt, tokens), len(states))
        self.tick(1)
        return found

    def _tokenized(self, prompt: str) -> dict[str, Any]:
        """A prompt's tokens by text encoder; a bracket is a bracket, and no weight."""
        tokens: dict[str, Any] = self.clip.tokenize(re.sub(r"([()])", r"\\\1", prompt))
        return tokens

    def _parts(self, prompt: str, tokens: dict[str, Any]) -> list[tuple[Words, list[int]]]:
        """The tokens of each segment."""
        return [(self._words(name), positions.single(prompt, tokens[name])) for name in self._keys]

    @cached_property
    def _towers(self) -> dict[str, Any]:
        """The text encoders, by the names that their tokens have."""
        found = {name: _part(self.clip.cond_stage_model, name) for name in self._tokenized("")}
        return {name: tower for name, tower in found.items() if tower is not None}

    @cached_property
    def _keys(self) -> list[str]:
        return positions.keys(self.family, list(self._towers))

    def _words(self, name: str) -> Words:
        tokenizer = self._tokenizer(name)
        return Words(tokenizer.inv_vocab, tokenizer.end_token, tokenizer.pad_token)

    def _tokenizer(self, name: str) -> Any:
        return _part(self.clip.tokenizer, name)


def _part(whole: Any, name: str) -> Any:
    """A text encoder or its tokenizer, by the name that its tokens have."""
    return getattr(whole, f"clip_{name}", None) or getattr(whole, name, None)


def skipped(clip: Any, family: Family) -> int:
    """Which layer's states a CLIP gives, as a manifest counts; raises CheckpointError for one behind the family's."""
    skip = 1 if clip.layer_idx is None else layer(int(clip.layer_idx), family)
    if skip < 1:
        last = layer(1, family)
        raise CheckpointError(
            f"the CLIP is set to layer {clip.layer_idx}, and {family.name} is edited with {last} or a layer before it; "
            f"set the node 'CLIP Set Last Layer' to {last}, or take it out."
        )
    return skip


def layer(number: int, family: Family) -> int:
    """A manifest's `clip_skip` as ComfyUI counts layers, and the other way round."""
    return (-1 if family.name in PENULTIMATE else 0) - number


def read(clip: Any, maps: Maps, asked: int | None = None, tick: Callable[[int], None] = lambda _: None) -> ComfyEncoder:
    """The text encoders of a CLIP, for a network.

    Args:
        clip: ComfyUI's.
        maps: the network's.
        asked: a manifest's length; ComfyUI's own stands in its place.
        tick: as in `ComfyEncoder`.

    Raises:
        CheckpointError: they give it what it does not read.
    """
    family = maps.family
    norm = maps.weights[family.norm[0]] if family.norm else None
    encoder = ComfyEncoder(
        fingerprints=_fingerprints(clip, family, norm), clip_skip=skipped(clip, family), asked=asked,
        states_of=PROGRAM, clip=clip, family=family, norm=norm, tick=tick,
    )  # fmt: skip
    for reader in encoder.readers:
        matrix = next(one for one in family.matrices if one.stream == reader.stream)
        if not network.fits(matrix, maps, reader.width):
            raise other(reader.stream, reader.width, family, maps.shape(matrix)[1])
    return encoder


def other(stream: str, width: int, family: Family, wanted: int) -> CheckpointError:
    """What is said of another model's CLIP."""
    return CheckpointError(
        f"the CLIP gives {network.CALLED[stream]} of width {width}, and this MODEL, {family.name}, reads {wanted}; "
        "connect the CLIP that it is drawn with."
    )


def layout(encoder: ComfyEncoder) -> str:
    """By which everyday prompts that were read in another way are told: templates, padding, and how many there are."""
    tokens = {
        name: [[str(token) for token, *_ in chunk] for chunk in chunks]
        for name, chunks in encoder._tokenized("a rose").items()
    }
    rows = len(encoder.remembered([""], 0)[0][TEXT])
    return hashlib.sha256(json.dumps([tokens, rows], sort_keys=True).encode()).hexdigest()[:12]


def _fingerprints(clip: Any, family: Family, norm: torch.Tensor | None) -> tuple[str, ...]:
    """Those that the command line has for these text encoders; of patched and packed ones others, of what they give."""
    stage = clip.cond_stage_model
    if stage not in _KNOWN:
        _KNOWN[stage] = _of_weights(clip, family, norm)
    packed = not all(one.is_floating_point() for one in stage.parameters())  # as in GGUF
    if not (packed or clip.patcher.patches or clip.patcher.forced_hooks):
        return _KNOWN[stage]
    states = clip.encode_from_tokens(clip.tokenize("a rose"))
    told = hashlib.sha256(_KNOWN[stage][0].encode() + states.float().cpu().numpy().tobytes())
    return (told.hexdigest(),)


def _of_weights(clip: Any, family: Family, norm: torch.Tensor | None) -> tuple[str, ...]:
    """Fingerprints of the weights without patches, of the tensors that the command line looks at."""
    towers: dict[str, dict[str, str]] = {}  # of every text encoder the tensors' own names, and all of each
    for key in _numbers(clip.cond_stage_model):
        name, _, own = key.partition(".transformer.")
        if own:
            towers.setdefault(name, {})[own.removeprefix("text_model.")] = key
    if family.by_pipeline:
        keys = [key for name, tensors in towers.items() for key in _seen(name, tensors, family)]
        told = (network.number(clip.patcher, key) for key in keys)
        return (fingerprints.of_tensors(chain(told, [] if norm is None else [norm])),)
    order = sorted(towers, key=lambda name: TOWERS.index(name) if name in TOWERS else len(TOWERS))
    read = [{own: network.number(clip.patcher, key) for own, key in towers[name].items()} for name in order]
    return fingerprints.fingerprints([_as_read(*one) for one in zip(family.towers, read, strict=False)])


def _numbers(stage: torch.nn.Module) -> list[str]:
    """The names of the tensors of text encoders, without what stands beside them."""
    held = {**dict(stage.named_parameters(remove_duplicate=False)), **dict(stage.named_buffers())}
    named = [name for name in stage.state_dict() if name in held and not is_beside(name)]
    return [name for name in named if held[name].is_floating_point() and held[name].numel()]


def _seen(name: str, tensors: dict[str, str], family: Family) -> list[str]:
    """Of one text encoder of a diffusion transformer the tensors that a state depends on."""
    towers = [one for kind in (family, *family.kinds) for one in kind.towers]
    tower = next((one for one in towers if f"{name}.transformer." in one.prefixes), towers[0])
    total = len({found[1] for own in tensors if (found := encoders.LAYER.search(own))})
    return [key for own, key in tensors.items() if encoders.is_seen(own, tower, encoders.layers(tower, total))]


def _as_read(tower: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of CLIP's text tower those that the states come from: ComfyUI has a projection everywhere."""
    left_out = () if tower.pooled else ("text_projection.weight",)
    behind = tuple(f"encoder.layers.{number}." for number in range(tower.blocks, 99)) if tower.blocks else ()
    return {name: tensor for name, tensor in tensors.items() if name not in left_out and not name.startswith(behind)}
