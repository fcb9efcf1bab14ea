"""Prompts to text states by diffusers: templates, layers, masks and padding are those that the network is fed with.

A pipeline is built of the text encoders and tokenizers alone, and its `encode_prompt` is asked. Which token stands at
which position is seen in what the pipeline hands to its text encoders.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch

from timecli.errors import CheckpointError, PromptError, explained
from timecli.models.checkpoint import Checkpoint
from timecli.models.comfyui import LEAST, PROGRAM
from timecli.models.streams import MASK, POOLED, TEXT, Family, tokenizer_of
from timecli.text import fingerprints, loading, segments
from timecli.text.readers import EVERYDAY
from timecli.text.segments import OfFamily, Segment

UNREAD = "the text encoders cannot read {!r}; diffusers says"


@dataclass(frozen=True)
class PipelineEncoder(OfFamily):
    """A family's pipeline without its network.

    Attributes:
        pipeline: diffusers' own.
        widths: the d of every stream.
        least: how many positions the text is filled up to where a longer prompt has more, as ComfyUI does it; 0 where
            all prompts have as many.
    """

    pipeline: Any
    widths: dict[str, int]
    least: int = 0

    @property
    def width(self) -> int:
        """The d of the states."""
        return self.widths[TEXT]

    @property
    def pooled_width(self) -> int:
        """The d of the vector for the whole prompt; 0 where there is none."""
        return self.widths.get(POOLED, 0)

    @property
    def tokenizer(self) -> Any:
        """That of the text's last segment."""
        return self._tokenizer(self.family.sequence[-1])

    @property
    def length(self) -> int:
        """How many positions are filled: as many as the pipeline draws with, where the text encoder holds them."""
        return self.asked or self.least or self._usual

    @property
    def _usual(self) -> int:
        """How many diffusers fills."""
        named = inspect.signature(self.pipeline.__call__).parameters["max_sequence_length"].default
        return min(int(named), self.most_tokens)

    def _length_of(self, prompt: str) -> int:
        """How many positions a prompt's text has in the last text encoder."""
        if not self.least:
            return self.length
        return max(self.length, len(self.tokenizer(prompt)["input_ids"]) + self.template)

    @property
    def most_tokens(self) -> int:
        """How many tokens the last text encoder holds, or would hold where it is not there."""
        parts = inspect.signature(type(self.pipeline).__init__).parameters
        last = getattr(self.pipeline, max(name for name in parts if name.startswith("tokenizer")), None)
        return int(getattr(getattr(last, "tokenizer", last), "model_max_length", loading.LONGEST))

    @cached_property
    def template(self) -> int:
        """How many tokens that the network is given are none of a prompt's."""
        if len(self.family.towers) > 1:
            return 0
        collected = _handed(self.pipeline, self.family.sequence, alone=True)
        with explained(UNREAD.format("")), suppress(_Enough), collected as calls:
            self.pipeline.encode_prompt(prompt=[""], max_sequence_length=self._usual, **self._options())
        ids, mask = calls[self.family.sequence[0]]
        left_out = getattr(self.pipeline, "prompt_template_encode_start_idx", 0)
        return (len(ids) if mask is None else int(mask.sum())) - left_out - len(self.tokenizer("")["input_ids"])

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt without its template.

        Raises:
            PromptError: one of its states would be cut off. A vector for the whole prompt is of what its encoder reads.
        """
        for tower in (tower for tower in self.family.towers if tower.folder in self.family.sequence):
            tokenizer = self._tokenizer(tower.folder)
            count = len(tokenizer(prompt)["input_ids"])
            most = min(self._length_of(prompt), int(tokenizer.model_max_length))
            if count + self.template > most:
                wrapped = f", and {self.template} more around it," if self.template else ""
                reads, more = f"the text encoder {tower.name} reads {most}", ""
                if most == self.asked:
                    reads, more = f"the length that was given is {most}", ", or give a larger length"
                raise PromptError(f"{prompt!r} has {count} tokens{wrapped} and {reads}; shorten it{more}.")
        return list(self.tokenizer(prompt)["input_ids"])

    def pieces(self, word: str) -> list[str]:
        """The tokens of a word alone, as text."""
        ids = self.tokenizer(word, add_special_tokens=False)["input_ids"]
        return [segments.plain(token) for token in self.tokenizer.convert_ids_to_tokens(ids)]

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], positions: int | None = None) -> list[dict[str, torch.Tensor]]:
        """What each prompt gives to every stream, rows `[positions, d]`, in the encoder's dtype; `positions` is all."""
        return [self._encoded(prompt) for prompt in prompts]

    def _encoded(self, prompt: str) -> dict[str, torch.Tensor]:
        self.tokens(prompt)
        with explained(UNREAD.format(prompt)), _handed(self.pipeline, self.family.sequence) as calls:
            result = self.pipeline.encode_prompt(
                prompt=[prompt], max_sequence_length=self._length_of(prompt), **self._options()
            )
        outputs = {name: result[place][0] for name, place in self.family.outputs}
        states = outputs[TEXT]
        states = states[
            : sum(len(ids) for ids, _ in calls.values())
        ]  # behind are zeros for an encoder that is not here
        if MASK in outputs:
            states = states[: int(outputs[MASK].sum())]
        states = self.normed(states.cpu())
        found = {TEXT: states}
        if POOLED in outputs:
            found[POOLED] = outputs[POOLED][None].cpu()
        self.known[prompt] = tuple(self._segment(prompt, name, *calls[name], len(states)) for name in calls)
        return found

    def _options(self) -> dict[str, Any]:
        """What `encode_prompt` takes beside a prompt and its length."""
        taken = inspect.signature(self.pipeline.encode_prompt).parameters
        options = {"prompt_2": None, "prompt_3": None, "do_classifier_free_guidance": False}
        return {name: value for name, value in options.items() if name in taken}

    def _segment(self, prompt: str, name: str, ids: torch.Tensor, mask: torch.Tensor | None, rows: int) -> Segment:
        """The tokens at a text encoder's positions, of which a template's first ones and padding may be gone."""
        tokenizer = self._tokenizer(name)
        if mask is None:
            mask = torch.arange(len(ids)) < len(tokenizer(prompt)["input_ids"])
        own = torch.nonzero(mask)[:, 0]
        if len(self.family.sequence) == 1 and rows < len(ids):
            if rows > len(own):  # the padding behind is gone, but for the first
                ids, own = ids[:rows], own[own < rows]
            else:
                ids, own = ids[own][-rows:], torch.arange(rows)
        return Segment(tuple(tokenizer.convert_ids_to_tokens(ids.tolist())), int(own[0]), int(own[-1]) + 1)

    def _tokenizer(self, encoder: str) -> Any:
        """That of a text encoder, where it has a processor of text and pictures the tokenizer in it."""
        found = getattr(self.pipeline, tokenizer_of(encoder))
        return getattr(found, "tokenizer", found)


class _Enough(Exception):
    """A text encoder was given its tokens, and nothing more is asked."""


@contextmanager
def _handed(
    pipeline: Any, names: Sequence[str], alone: bool = False
) -> Iterator[dict[str, tuple[torch.Tensor, torch.Tensor | None]]]:
    """Inside, the token ids and the mask that text encoders are given are collected; `alone`, the first stops there."""
    calls: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}

    def listen(name: str, _module: Any, given: Any, values: Any) -> None:
        ids, mask = values["input_ids"] if "input_ids" in values else given[0], values.get("attention_mask")
        calls[name] = ids[0].cpu(), None if mask is None else mask[0].cpu().bool()
        if alone:
            raise _Enough

    with ExitStack() as stack:
        for name in names:
            module = getattr(pipeline, name)
            stack.callback(module.register_forward_pre_hook(partial(listen, name), with_kwargs=True).remove)
        yield calls


def read(
    checkpoint: Checkpoint,
    tokenizer: Path | None,
    device: torch.device,
    clip_skip: int,
    length: int | None,
    comfyui: bool = False,
) -> PipelineEncoder:
    """The text encoders of a diffusion transformer, each in its own dtype; the arguments are `read_text_encoder`'s.

    Raises:
        CheckpointError: one cannot be loaded, an option is for CLIP alone, or the length is more than one reads.
    """
    if tokenizer is not None or clip_skip > 1:
        raise CheckpointError(
            f"{checkpoint.path} is {checkpoint.family.name}, whose text diffusers reads; leave out --tokenizer and "
            "clip_skip."
        )
    family, left_out = _at_hand(checkpoint)
    parts: dict[str, Any] = {}
    stamps = []
    for text in checkpoint.encoders:
        tensors = text.read()
        stamps.append(fingerprints.part(checkpoint, text, tensors))
        if comfyui and text.tower.identity:  # it takes the vector before the projection, which some files have
            tensors = text.unprojected(tensors)
        with explained(f"{text.folder} cannot be loaded as a text encoder; transformers says"):
            parts[text.tower.folder] = model = loading.encoder(text, tensors, device)
            parts[text.tokenizer.name] = loading.tokenizer(text.tokenizer, model.config.get_text_config())
    kind = getattr(diffusers, family.pipeline)
    missing = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", *parts)]
    pipeline = kind(**dict.fromkeys(missing), **parts)
    if left_out:
        pipeline.transformer = SimpleNamespace(config=SimpleNamespace(joint_attention_dim=checkpoint.width))
    widths = {TEXT: checkpoint.width, **{m.stream: checkpoint.width_of(m.stream) for m in family.matrices}}
    least = LEAST.get(family.name, 0) if comfyui else 0
    stamp, everyday = fingerprints.of_parts(checkpoint, stamps), checkpoint.beside_config(EVERYDAY)
    encoder = PipelineEncoder(
        pipeline, widths, least, family=family, norm=checkpoint.norm(), fingerprints=stamp, asked=length,
        everyday=everyday, device=device, cautions=left_out, states_of=PROGRAM if least else "",
    )  # fmt: skip
    if length is not None and length > encoder.most_tokens:
        raise CheckpointError(
            f"{checkpoint.path} has a text encoder that reads {encoder.most_tokens} tokens; "
            f"solve.length {length} is more."
        )
    return encoder


def _at_hand(checkpoint: Checkpoint) -> tuple[Family, tuple[str, ...]]:
    """The family with the text encoders that are there, and what to say of those that are not."""
    towers = tuple(text.tower for text in checkpoint.encoders)
    folders = [tower.folder for tower in towers]
    gone = [tower.name for tower in checkpoint.family.towers if tower.folder not in folders]
    if not gone:
        return checkpoint.family, ()
    sequence = tuple(name for name in checkpoint.family.sequence if name in folders)
    return replace(checkpoint.family, towers=towers, sequence=sequence), (
        f"{checkpoint.path} has no {gone[0]}: its rows of the text are zeros, as diffusers and ComfyUI draw it; give "
        "it as --text-encoder to edit what it reads, too.",
    )
