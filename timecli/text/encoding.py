"""Prompts to text embeddings, by the checkpoint's own text encoder and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from timecli.errors import CheckpointError, PromptError
from timecli.models import streams
from timecli.models.checkpoint import Checkpoint
from timecli.models.openclip import HF_PROJECTION
from timecli.models.streams import POOLED, TEXT, tokenizer_of
from timecli.text import clip, sizes, tokenizers
from timecli.text.align import align
from timecli.text.clip import TextTower
from timecli.text.fingerprints import fingerprints
from timecli.text.readers import EVERYDAY, TextEncoder
from timecli.text.tokenizers import Tokenizer

BATCH = 32
"""Prompts of a block of a solve."""
ROWS = 1024
"""Positions that are encoded at once: what lies between two layers then stays in a processor's cache."""


@dataclass(frozen=True)
class Tower:
    """A text tower with its tokenizer."""

    tokenizer: Tokenizer
    model: TextTower

    def padded(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Token ids of some prompts, filled up to the length that the tower reads, `[n, length]`."""
        length, pad = self.model.length, self.tokenizer.pad
        return torch.tensor([[*ids, *[pad] * (length - len(ids))] for ids in tokens])


@dataclass(frozen=True)
class ClipEncoder(TextEncoder):
    """Text towers whose states stand side by side; one in SD 1 and SD 2, two in SDXL.

    Attributes:
        towers: they end before the layers that `clip_skip` skips.
    """

    towers: tuple[Tower, ...]

    @property
    def tokenizer(self) -> Tokenizer:
        """The first tower's; all have the same vocabulary and differ in their padding."""
        return self.towers[0].tokenizer

    @property
    def pooled_width(self) -> int:
        """The d of the vector for the whole prompt; 0 where there is none."""
        last = self.towers[-1].model
        return len(last.weights[HF_PROJECTION]) if last.layers else 0

    @property
    def width(self) -> int:
        """The d of the embeddings."""
        return sum(tower.model.width for tower in self.towers)

    @property
    def length(self) -> int:
        """Positions of the output, padding included."""
        return self.towers[0].model.length

    @property
    def most(self) -> int:
        """As `length`."""
        return self.length

    def tokens(self, prompt: str) -> list[int]:
        """Token ids from start to end token, without padding.

        Raises:
            PromptError: the prompt is longer than the encoder reads; it would be cut silently.
        """
        ids = self.tokenizer.ids(prompt)
        if len(ids) > self.length:
            raise PromptError(f"{prompt!r} has {len(ids)} tokens and the text encoder reads {self.length}; shorten it.")
        return ids

    def words(self, prompt: str) -> list[str]:
        """The tokens as text, for people."""
        return tokenizers.words(self.tokenizer.tokens(self.tokens(prompt)))

    def pieces(self, word: str) -> list[str]:
        """The tokens of a word alone, as text."""
        return self.words(word)[1:-1]

    def alignment(self, source: str, destination: str) -> list[int]:
        """`align` on the tokens of two prompts. "an" counts as "a": the article follows the next word."""
        an, a = self.tokenizer.id("an</w>"), self.tokenizer.id("a</w>")
        one, other = (
            [a if a is not None and token == an else token for token in self.tokens(prompt)]
            for prompt in (source, destination)
        )
        if one == other:
            raise PromptError(f"{source!r} -> {destination!r}: both are the same tokens; the edit would do nothing.")
        try:
            return align(one, other, self.length)
        except PromptError as error:
            raise PromptError(f"{source!r} -> {destination!r}: {error}") from error

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], positions: int | None = None) -> list[dict[str, torch.Tensor]]:
        """What each prompt gives to every stream, rows `[positions, d]` float32 on the CPU, with nothing remembered."""
        tokens = [self.tokens(prompt) for prompt in prompts]
        count = max(1, ROWS // (positions or self.length))
        found: list[dict[str, torch.Tensor]] = []
        for first in range(0, len(tokens), count):
            batch = tokens[first : first + count]
            ends = torch.tensor([len(ids) - 1 for ids in batch])
            parts, vector = [], None
            for tower in self.towers:
                ids = tower.padded(batch)[:, :positions]
                if tower.model.layers:
                    states, vector = tower.model.pooled(ids, ends)
                else:
                    states = tower.model.states(ids)
                parts.append(states.cpu())
            joined = torch.cat(parts, dim=2)
            found += [{TEXT: states} for states in joined]
            if vector is not None:
                for one, row in zip(found[first:], vector.cpu(), strict=True):
                    one[POOLED] = row[None]
        return found

    def enough(self, prompts: Sequence[str], behind: int = 0, least: int = 0) -> int:
        """Positions to encode: so many behind the longest prompt, and no fewer than `least`."""
        return min(self.length, max(least, *(behind + len(self.tokens(prompt)) for prompt in prompts)))

    def standing(self, rows: int) -> torch.Tensor:
        """How many positions each of a prompt's first rows stands for, `[rows]`: the last for all that follow."""
        weight = torch.ones(rows, dtype=torch.float64)
        weight[-1] += self.length - rows
        return weight

    def own(self, prompt: str) -> list[int]:
        """The positions from start to end token."""
        return list(range(len(self.tokens(prompt))))


def load(
    weights: Mapping[str, torch.Tensor],
    tower: streams.Tower,
    tokenizer: Path | None,
    config: Path | None,
    device: torch.device,
    name: str,
    clip_skip: int = 1,
) -> Tower:
    """A text tower of its tensors, in float32.

    Args:
        weights: tensors with the names of transformers' `CLIPTextModel`.
        tower: what the family has in this place.
        tokenizer: a tokenizer folder; None for OpenAI CLIP's vocabulary.
        config: a `config.json`; None reads the sizes from the shapes.
        device: where to encode.
        name: how errors call the model.
        clip_skip: as in `read_text_encoder`.

    Raises:
        CheckpointError: weights, sizes and vocabulary do not fit each other, or there is no such layer.
    """
    found = sizes.measured(weights, name)
    reader = tokenizers.load(tokenizer, tower.padding, found["vocab_size"], name)
    settings = sizes.stated(config, found, name) if config else sizes.guessed(found, tower, name)
    own = {key: value.to(device).float() for key, value in weights.items() if not key.endswith("position_ids")}
    wanted = clip.shapes(found)
    if tower.pooled:
        wanted[HF_PROJECTION] = (len(own[HF_PROJECTION]) if HF_PROJECTION in own else 0, found["hidden_size"])
    wrong = sorted(key for key in own.keys() | wanted if key not in own or own[key].shape != wanted.get(key))
    if wrong:
        raise CheckpointError(
            f"the text encoder of {name} does not fit CLIP's ({wrong[0]} differs); use a complete model."
        )
    layers, skipped = found["num_hidden_layers"], clip_skip - (0 if tower.penultimate else 1)
    if skipped >= layers:
        raise CheckpointError(f"{name} has a text encoder of {layers} layers; clip_skip can be 1 to {layers}.")
    depth = layers - skipped
    behind = () if tower.pooled else tuple(f"{sizes.LAYER}{number}." for number in range(depth, layers))
    kept = {key: tensor for key, tensor in own.items() if not key.startswith(behind)}
    known = (settings.heads, settings.activation, settings.epsilon)
    return Tower(reader, TextTower(kept, *known, depth, not tower.penultimate, layers if tower.pooled else 0))


def read_text_encoder(
    checkpoint: Checkpoint,
    tokenizer: Path | None,
    device: torch.device,
    clip_skip: int = 1,
    length: int | None = None,
    comfyui: bool = False,
) -> TextEncoder:
    """The checkpoint's own text encoders; the tokenizers from `tokenizer`, the config folder, or CLIP's.

    Args:
        checkpoint: the model.
        tokenizer: a tokenizer folder.
        device: where to encode.
        clip_skip: which layer's states the UNet is given, counted from the last, as A1111 counts: 1 is the last. It is
            diffusers' `clip_skip` plus one.
        length: how many positions a diffusion transformer's text is filled up to, and cut at; None for diffusers' own.
        comfyui: whether the text is filled up as ComfyUI does it.
    """
    if checkpoint.family.by_pipeline:  # its libraries take seconds to import
        from timecli.text import pipelines

        return pipelines.read(checkpoint, tokenizer, device, clip_skip, length, comfyui)
    if length is not None:
        raise CheckpointError(
            f"{checkpoint.path} is {checkpoint.family.name}, whose text has as many positions as CLIP; leave out "
            "solve.length."
        )
    if tokenizer is not None and len(checkpoint.texts) > 1:
        raise CheckpointError(f"{checkpoint.path} has two tokenizers; give a folder with both as --config.")
    if clip_skip > 1 and any(text.tower.penultimate for text in checkpoint.texts):
        raise CheckpointError(
            f"{checkpoint.path} is {checkpoint.family.name}, which is given the states before the last layer as it is; "
            "leave clip_skip at 1."
        )
    towers, weights = [], checkpoint.text_encoders()
    for text, tensors in zip(checkpoint.texts, weights, strict=True):
        folder = text.tower.folder
        own = checkpoint.beside_config(tokenizer_of(folder))
        stated = checkpoint.beside_config(f"{folder}/config.json")
        towers.append(load(tensors, text.tower, tokenizer or own, stated, device, str(checkpoint.path), clip_skip))
    own_list = checkpoint.beside_config(EVERYDAY)
    cautions = tuple(sentence for text in checkpoint.texts if (sentence := text.caution()))
    return ClipEncoder(
        tuple(towers),
        fingerprints=fingerprints(weights),
        clip_skip=clip_skip,
        everyday=own_list,
        cautions=cautions,
        device=device,
    )
