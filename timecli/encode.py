"""Prompts to text embeddings, by the checkpoint's own text encoder and tokenizer.

A pair becomes rows of `C` (source) and `C_star` (destination), already matched token by token: what Orgad et al. (2023)
call c_i and c_i*.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from timecli.align import align
from timecli.errors import CheckpointError, PromptError
from timecli.manifest import Edit, Manifest

CLIP_VOCABULARY = 49408
BATCH = 32


@dataclass(frozen=True)
class Columns:
    """The rows of a joint solve.

    Attributes:
        source: C, `[n, d]` float64.
        destination: C*, `[n, d]` float64; equal to `source` for what is to be preserved.
        weight: `[n]` float64, 1/λ of the row's pair.
    """

    source: torch.Tensor
    destination: torch.Tensor
    weight: torch.Tensor


@cache
def clip_tokenizer() -> CLIPTokenizer:
    """OpenAI CLIP's tokenizer, from the merges that ship with this package."""
    packed = resources.files("timecli").joinpath("data/clip/merges.txt.gz").read_bytes()
    merges = [tuple(line.split()) for line in gzip.decompress(packed).decode("utf-8").splitlines()]
    letters = list(_byte_letters())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocab = {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def _byte_letters() -> Iterable[str]:
    """The printable stand-ins for the 256 bytes, in the order of GPT-2's and CLIP's vocabularies."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    yield from map(chr, printable)
    yield from (chr(256 + i) for i in range(256 - len(printable)))


@dataclass(frozen=True)
class TextEncoder:
    """A CLIP text tower with its tokenizer. `width` is d, `length` the number of positions."""

    tokenizer: CLIPTokenizer
    model: CLIPTextModel
    fingerprint: str

    @property
    def width(self) -> int:
        """The d of the embeddings."""
        return int(self.model.config.hidden_size)

    @property
    def length(self) -> int:
        """Positions of the output, padding included."""
        return int(self.model.config.max_position_embeddings)

    def tokens(self, prompt: str) -> list[int]:
        """Token ids from start to end token, without padding.

        Raises:
            PromptError: the prompt is longer than the encoder reads; it would be cut silently.
        """
        ids = list(self.tokenizer(prompt).input_ids)
        if len(ids) > self.length:
            raise PromptError(f"{prompt!r} has {len(ids)} tokens and the text encoder reads {self.length}; shorten it.")
        return ids

    def words(self, prompt: str) -> list[str]:
        """The tokens as text, for people."""
        return [str(token).removesuffix("</w>") for token in self.tokenizer.convert_ids_to_tokens(self.tokens(prompt))]

    def alignment(self, source: str, destination: str) -> list[int]:
        """`align` on the tokens of two prompts. "an" counts as "a": the article follows the next word."""
        an, a = self.tokenizer.convert_tokens_to_ids(["an</w>", "a</w>"])
        one, other = (
            [a if token == an else token for token in self.tokens(prompt)] for prompt in (source, destination)
        )
        if one == other:
            raise PromptError(f"{source!r} -> {destination!r}: both are the same tokens; the edit would do nothing.")
        try:
            return align(one, other, self.length)
        except PromptError as error:
            raise PromptError(f"{source!r} -> {destination!r}: {error}") from error

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """Last hidden states `[len(prompts), length, d]` float64 on the CPU, each distinct prompt encoded once."""
        distinct = list(dict.fromkeys(prompts))
        pad = self.tokenizer.pad_token_id
        rows = [ids + [pad] * (self.length - len(ids)) for ids in map(self.tokens, distinct)]
        batches = (torch.tensor(rows[i : i + BATCH], device=self.model.device) for i in range(0, len(rows), BATCH))
        states = torch.cat([self.model(input_ids=batch).last_hidden_state.cpu().double() for batch in batches])
        return states[[distinct.index(prompt) for prompt in prompts]]


def load(
    weights: Mapping[str, torch.Tensor], tokenizer: Path | None, config: Path | None, device: torch.device, name: str
) -> TextEncoder:
    """Build the encoder from its tensors, in float32.

    Args:
        weights: tensors with the names of transformers' `CLIPTextModel`, below `text_model.`.
        tokenizer: a tokenizer folder; None for OpenAI CLIP's vocabulary.
        config: a `config.json`; None reads the sizes from the shapes.
        device: where to encode.
        name: how errors call the model.

    Raises:
        CheckpointError: weights, sizes and vocabulary do not fit each other.
    """
    reader = _tokenizer(tokenizer, len(weights["embeddings.token_embedding.weight"]), name)
    settings = _settings(weights, name) if config is None else CLIPTextConfig.from_pretrained(config).to_dict()
    ends = {
        "bos_token_id": reader.bos_token_id,
        "eos_token_id": reader.eos_token_id,
        "pad_token_id": reader.pad_token_id,
    }
    model = CLIPTextModel(CLIPTextConfig(**{**settings, **ends}))
    # transformers 5 has no `text_model.` level inside CLIPTextModel; earlier releases do.
    inner = getattr(model, "text_model", model)
    own = {key: value.float() for key, value in weights.items() if not key.endswith("position_ids")}
    wanted = {key: value.shape for key, value in inner.state_dict().items() if not key.endswith("position_ids")}
    wrong = sorted(key for key in own.keys() | wanted.keys() if key not in own or own[key].shape != wanted.get(key))
    if wrong:
        raise CheckpointError(
            f"the text encoder of {name} does not fit CLIP's ({wrong[0]} differs); use a complete model."
        )
    inner.load_state_dict(own, strict=False)
    return TextEncoder(reader, model.to(device).eval(), fingerprint(own))


def _tokenizer(folder: Path | None, vocabulary: int, name: str) -> CLIPTokenizer:
    """The tokenizer of a folder, or CLIP's own; its vocabulary must be the encoder's."""
    if folder is None and vocabulary != CLIP_VOCABULARY:
        raise CheckpointError(
            f"{name} has a vocabulary of {vocabulary} tokens, not CLIP's {CLIP_VOCABULARY}; "
            "give its own with --tokenizer or --config."
        )
    if folder is not None and not (folder / "tokenizer_config.json").exists():
        raise CheckpointError(f"{folder} has no tokenizer_config.json; give a tokenizer folder.")
    try:
        reader = clip_tokenizer() if folder is None else CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} cannot be read as a tokenizer: {' '.join(str(error).split())}") from error
    if len(reader) != vocabulary:
        raise CheckpointError(
            f"the tokenizer for {name} has {len(reader)} tokens and its text encoder {vocabulary}; they must agree."
        )
    return reader


def _settings(weights: Mapping[str, torch.Tensor], name: str) -> dict[str, int]:
    """Sizes from shapes. CLIP's heads are 64 wide in every release."""
    try:
        vocabulary, width = weights["embeddings.token_embedding.weight"].shape
        if width % 64:
            raise CheckpointError(f"{name} has a text encoder of width {width}, which CLIP has not; give its --config.")
        return {
            "hidden_size": width,
            "vocab_size": vocabulary,
            "max_position_embeddings": len(weights["embeddings.position_embedding.weight"]),
            "intermediate_size": len(weights["encoder.layers.0.mlp.fc1.weight"]),
            "num_hidden_layers": len({key.split(".")[2] for key in weights if key.startswith("encoder.layers.")}),
            "num_attention_heads": width // 64,
        }
    except KeyError as error:
        raise CheckpointError(f"{name} has a text encoder without {error}; the file is incomplete.") from error


def fingerprint(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of the encoder's weights, rounded to fp16 so that fp32 and fp16 copies count as one encoder."""
    digest = hashlib.sha256()
    for key in sorted(key for key in weights if not key.endswith("position_ids")):
        digest.update(key.encode())
        digest.update(weights[key].half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def augmented(prompt: str, templates: Iterable[str]) -> list[str]:
    """The prompt and its augmentations, a leading article in lower case (appendix C)."""
    first, _, rest = prompt.partition(" ")
    inside = f"{first.lower()} {rest}" if first in ("A", "An") and rest else prompt
    return [prompt, *(template.replace("{}", inside) for template in templates)]


def augmented_pairs(edit: Edit, templates: Sequence[str]) -> list[tuple[str, str]]:
    """Source and destination, plain and in every augmentation."""
    return list(zip(*(augmented(prompt, templates) for prompt in (edit.source, edit.destination)), strict=True))


def columns(manifest: Manifest, encoder: TextEncoder) -> Columns:
    """Every row of the manifest's joint solve.

    Pair i enters with weight 1/λ_i, which is Eq. 4 divided by λ; with one λ this is Eq. 5 and appendix F.

    Raises:
        PromptError: a prompt is too long or a pair has nothing in common.
    """
    parts = [_pair_rows(manifest, edit, encoder) for edit in manifest.edits]
    if manifest.preserve.prompts:
        prompts = [text for prompt in manifest.preserve.prompts for text in augmented(prompt, manifest.solve.augment)]
        kept = torch.cat(
            [
                state[: _count(manifest, encoder, text)]
                for state, text in zip(encoder.embed(prompts), prompts, strict=True)
            ]
        )
        parts.append(
            (kept, kept, torch.full((len(kept),), manifest.preserve.weight / manifest.solve.lam, dtype=torch.float64))
        )
    return Columns(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _pair_rows(manifest: Manifest, edit: Edit, encoder: TextEncoder) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    pairs = augmented_pairs(edit, manifest.solve.augment)
    paired = [encoder.alignment(*pair)[: _count(manifest, encoder, pair[0])] for pair in pairs]
    sources, destinations = zip(*pairs, strict=True)
    before, after = encoder.embed(sources), encoder.embed(destinations)
    source = torch.cat([state[: len(rows)] for state, rows in zip(before, paired, strict=True)])
    destination = torch.cat([state[rows] for state, rows in zip(after, paired, strict=True)])
    return source, destination, torch.full((len(source),), 1 / manifest.lam(edit), dtype=torch.float64)


def _count(manifest: Manifest, encoder: TextEncoder, prompt: str) -> int:
    """How many positions of a prompt take part."""
    return encoder.length if manifest.solve.tokens == "all" else len(encoder.tokens(prompt))
